"""Weights packed in bytes, against the same weights in floats: what they take, what a pass takes, and what they say.

MXINT8 is 8 bits and an eighth of two: 8.25 bits a weight, which saves 74.2 % of float32. A whole decoder saves less:
embeddings, norms, biases and the head stay in floats, and are told apart here. No time is won: packed weights are made
floats again each time they are met.

of packed   bytes of what is packed, over the same in float32      of all    all weights, over all in float32
ms/token    writing with caches                                    MiB peak  on the accelerator, if there is one
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from gptlab.config.recipe import Recipe
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, following, vocabulary
from gptlab.study.tools.transplant import batches, distances, passing, transplanted, weights_of

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

WRITTEN = 16
"""Tokens that are written to time one."""


class MXInt8(Study):
    """run: a run folder whose weights are packed; null, those of init and seed. formats: that can be stored. vocab:
    null is that of the recipe's text, which is then read; else tokens are random. batch: sequences of one context."""

    def __init__(
        self, *, run: str | None = None, formats: list[str], vocab: int | None = None, batch: int = 4, rounds: int = 12
    ) -> None:
        for name, least, value in (("vocab", 2, vocab), ("batch", 1, batch), ("rounds", 1, rounds)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        if not formats:
            raise ValueError("formats=[] packs nothing; try [int8,mxint8]")
        self.run, self.formats, self.vocab, self.batch, self.rounds = run, formats, vocab, batch, rounds

    def arms(self, base: Recipe) -> dict[str, list[str]]:
        packed = {one: [following(base, "pack"), f"format@change.pack.format={one}"] for one in self.formats}
        return {"float32": [], **packed}

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        from gptlab.generation.generate import generate
        from gptlab.study.tools.timing import Place, turns
        from gptlab.weights.change import told

        base, first = next(iter(arms.items()))
        place, vocab = Place(first), vocabulary(first, self.vocab)
        weights = weights_of(self.run, first, vocab, build)
        decoders = {
            name: transplanted(name, recipe, vocab, build, weights).to(place.device) for name, recipe in arms.items()
        }
        tokens, targets = (one.to(place.device) for one in batches(first, self.vocab, self.batch, block))
        floats = held(decoders[base])
        logits, rows = {}, []
        for name, decoder in decoders.items():
            with torch.inference_mode():
                if place.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                logits[name] = cast(torch.Tensor, decoder.forward(tokens).logits)
                found = {"MiB": held(decoder) / 2**20, "of all": held(decoder) / floats}
                if place.device.type == "cuda":
                    found["MiB peak"] = torch.cuda.max_memory_allocated() / 2**20
                found["loss"] = cast(torch.Tensor, decoder.forward(tokens, targets).loss).item()
            if (numbers := told(decoder)) and "packed_bytes" in numbers:
                found["of packed"] = numbers["packed_bytes"] / numbers["unpacked_bytes"]
            if name != base:
                apart = distances(logits[base], logits[name])
                found |= {key: apart[key] for key in ("RMSE/std", "KL", "top-1 alike")}
            rows += [Row(name, block, metric, value) for metric, value in found.items()]
        length = min(WRITTEN, first.settings.model.context)

        def writing(name: str) -> None:
            for _ in generate(decoders[name], tokens[:1, :1], length):
                pass

        passes = {name: passing(one, tokens) for name, one in decoders.items()}
        writes = {name: lambda name=name: writing(name) for name in decoders}
        for metric, acts, each in (("ms/pass", passes, 1), ("ms/token", writes, length)):
            times = turns({**acts, AA_CONTROL: acts[base]}, float("inf"), self.rounds)
            rows = [*(Row(name, block, metric, [ms / each for ms in found]) for name, found in times.items()), *rows]
        return rows


def held(decoder: "Decoder") -> int:
    """Bytes of all that is kept of a decoder, a tied weight once."""
    return sum({one.untyped_storage().data_ptr(): one.nbytes for one in decoder.state_dict().values()}.values())
