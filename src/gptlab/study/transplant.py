"""The same weights under one change: how far do the logits move? To be measured before anything is trained anew.

a are the logits of the first arm, b those of another, over all tokens of a batch:

    RMSE^2 = mean (a - b)^2 = MAD^2 + SD^2        MAD, SD: mean and deviation of |a - b|

softmax ignores what all logits of a token share, so `RMSE/std, centred` subtracts each token's mean; KL is of softmax a
to softmax b, in nats. Random weights say nothing of trained ones: with tied N(0, 1) embeddings a decoder copies its
token, whatever is changed. A change that alters no logit is refused, as an experiment with epsilon once was not
(github.com/ravidcohen1/dle-assignment).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, get_vocab_size
from gptlab.study.tools.transplant import (
    build_transplant,
    load_weights,
    make_batch,
    make_forward_pass,
    measure_distances,
)


class Transplant(Study):
    """Measure how far each arm moves the logits of the first one's weights.

    run        a run folder whose weights all arms take; null takes those of init and seed
    vocab      vocabulary size, with random tokens; null reads the recipe's text
    batch      sequences of one context
    rounds     rounds in which all arms are timed, interleaved
    follow_up  train: the same arms are then trained anew, under every seed; null for none
    """

    def __init__(
        self,
        *,
        run: str | None = None,
        vocab: int | None = None,
        batch: int = 4,
        rounds: int = 12,
        follow_up: Literal["train"] | None = None,
    ) -> None:
        for name, least, value in (("vocab", 2, vocab), ("batch", 1, batch), ("rounds", 1, rounds)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        self.run, self.vocab, self.batch, self.rounds = run, vocab, batch, rounds
        self.follow_up = follow_up

    def check(self, arms: dict[str, Recipe]) -> None:
        if len(arms) < 2:
            raise Refused("study=transplant compares arms, and there is one; change something: norm.eps=1e-6,1e-4")
        if len({recipe.settings.model.context for recipe in arms.values()}) > 1:
            raise Refused("study=transplant gives all arms the same tokens; leave model.context alone")

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        from gptlab.config.factory import factory
        from gptlab.study.tools.timing import time_interleaved

        first = next(iter(arms.values()))
        # of the first arm for all: their times are compared
        torch.set_num_threads(factory(first.config["trainer"], "trainer")().threads)
        vocab = get_vocab_size(first, self.vocab)
        weights = load_weights(self.run, first, vocab, build)
        decoders = {
            name: build_transplant(name, recipe, vocab, build=build, weights=weights) for name, recipe in arms.items()
        }
        tokens, targets = make_batch(first, self.vocab, self.batch, block)
        with torch.inference_mode():
            logits = {name: cast(torch.Tensor, decoder.forward(tokens).logits) for name, decoder in decoders.items()}
            losses = {
                name: cast(torch.Tensor, decoder.forward(tokens, targets).loss) for name, decoder in decoders.items()
            }
        base, *others = arms
        rows = []
        for name in others:
            # bit for bit: whatever has an effect moves some last digit
            if torch.equal(logits[name], logits[base]):
                raise Refused(f"{name} changes no logit of {base}: it has no effect on these weights; leave it out")
            metrics = {
                **measure_distances(logits[base], logits[name]),
                "loss change": (losses[name] - losses[base]).item(),
            }
            rows += [Row(name, block, metric, value) for metric, value in metrics.items()]
        passes: dict[str, Callable[[], None]] = {
            name: make_forward_pass(decoder, tokens) for name, decoder in decoders.items()
        }
        # rounds alone end it: a limit of seconds would leave the arms of slow machines fewer
        times = time_interleaved({**passes, AA_CONTROL: passes[base]}, float("inf"), self.rounds)
        return [*(Row(name, block, "ms/pass", times[name]) for name in (*arms, AA_CONTROL)), *rows]
