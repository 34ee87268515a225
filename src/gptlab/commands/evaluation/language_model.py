"""A decoder as lm-evaluation-harness's language model. Imported only where that library is.

Log-likelihoods are those of generation/likelihood.py, texts those of generation/generate.py. Where nothing stands
before a text, a new line does, as in `sample`; the harness's own models take the token that ends a document.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import LM  # type: ignore[import-not-found]

from gptlab.commands.evaluation.until import write_until
from gptlab.console.progress import delayed_progress
from gptlab.corpus.continuations import tokenize_continuation, tokenize_start
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.generation.likelihood import Continuation, Likelihood, score_continuations
from gptlab.model.decoder import Decoder

PORTION = 512
"""Continuations scored between two moves of the bar."""


class DecoderLM(LM):
    """A decoder with its tokenizer, batched.

    max_rows  rows of a batch at most
    lost      texts before continuations that the context had no room for, and tokens that they lost
    """

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, max_rows: int) -> None:
        super().__init__()
        self.decoder, self.tokenizer, self.max_rows = decoder, tokenizer, max_rows
        self.lost: list[int] = []

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether each of its tokens is the likeliest."""
        scored = self._score([self._encode(request, *request.args) for request in requests])
        return [(likelihood.log_likelihood, likelihood.is_greedy) for likelihood in scored]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
        """Return the log-likelihood of whole texts, in windows where they are longer than the context."""
        scored = self._score([self._encode(request, "", *request.args) for request in requests])
        return [likelihood.log_likelihood for likelihood in scored]

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
        """Return the text that follows each prompt, up to the first of its stops."""
        prompts = []
        for request in requests:
            text, options = request.args
            tokens = self._encode(request, "", text).tokens if text else tokenize_start(self.tokenizer)
            prompts.append((tokens, options))
        return write_until(self.decoder, self.tokenizer, prompts, self.max_rows)

    def _encode(self, request: Any, before: str, text: str) -> Continuation:
        try:
            return tokenize_continuation(self.tokenizer, before, text)
        except Refused as refused:
            raise Refused(f"--tasks={request.task_name}, document {request.doc_id}: {refused}") from refused

    def _score(self, continuations: list[Continuation]) -> list[Likelihood]:
        scored: list[Likelihood] = []
        with delayed_progress("scoring", len(continuations)) as progress:
            for start in range(0, len(continuations), PORTION):
                part = continuations[start : start + PORTION]
                scored += score_continuations(self.decoder, part, self.max_rows)
                progress.advance(len(part))
        self.lost += [likelihood.lost for likelihood in scored if likelihood.lost]
        return scored
