"""Bits per byte of the text: nats / (ln 2 x bytes of UTF-8). Alone it compares models of different tokenizers."""

import math

from gptlab.training.metric import Ratio, Scores


class BitsPerByte(Ratio):
    """Bits per byte; equally likely bytes give 8."""

    needs_text = True

    def update(self, scores: Scores) -> None:
        self.above += scores.nats.double().sum() / math.log(2)
        self.below += scores.nbytes.double().sum()
