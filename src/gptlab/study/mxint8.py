"""Packed weights against the same in floats: bytes, time of a pass and of a token, and loss.

MXINT8 has 8 bits a weight and 8 bits a block of 32: 8.25 bits a weight, 74.2 % less than float32. A whole decoder saves
less: embeddings, norms, biases and the head stay in floats, and are counted apart. No time is won: packed weights are
unpacked to floats whenever they are used.

of packed   bytes of what is packed, over the same in float32      of all    all weights, over all in float32
ms/token    generation with caches                                 MiB peak  on the accelerator, if there is one
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from gptlab.config.recipe import Recipe
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study, append_change, get_vocab_size
from gptlab.study.tools.transplant import (
    build_transplant,
    load_weights,
    make_batch,
    make_forward_pass,
    measure_distances,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

GENERATED_TOKENS = 16
"""Number of tokens that are generated to time one."""


class MXInt8(Study):
    """Measure memory, time and loss of packed formats.

    run      a run folder whose weights are packed; null takes those of init and seed
    formats  names of formats that can be stored
    vocab    vocabulary size, with random tokens; null reads the recipe's text
    batch    sequences of one context
    rounds   rounds in which all arms are timed, interleaved
    """

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
        packed = {
            format: [append_change(base, "pack"), f"format@change.pack.format={format}"] for format in self.formats
        }
        return {"float32": [], **packed}

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        from gptlab.study.tools.timing import Placement
        from gptlab.weights.change import summary_metrics

        base, first = next(iter(arms.items()))
        placement, vocab = Placement(first), get_vocab_size(first, self.vocab)
        weights = load_weights(self.run, first, vocab, build)
        # all arms at once, on one device: they are timed in turns
        decoders = {
            name: build_transplant(name, recipe, vocab, build=build, weights=weights).to(placement.device)
            for name, recipe in arms.items()
        }
        tokens, targets = (tensor.to(placement.device) for tensor in make_batch(first, self.vocab, self.batch, block))
        float_bytes = count_stored_bytes(decoders[base])
        # logits of the floats are what the others are held against, so they come first
        logits, rows = {}, []
        for name, decoder in decoders.items():
            with torch.inference_mode():
                if placement.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                logits[name] = cast(torch.Tensor, decoder.forward(tokens).logits)
                metrics = {
                    "MiB": count_stored_bytes(decoder) / 2**20,
                    "of all": count_stored_bytes(decoder) / float_bytes,
                }
                if placement.device.type == "cuda":
                    metrics["MiB peak"] = torch.cuda.max_memory_allocated() / 2**20
                metrics["loss"] = cast(torch.Tensor, decoder.forward(tokens, targets).loss).item()
            if (byte_counts := summary_metrics(decoder)) and "packed_bytes" in byte_counts:
                metrics["of packed"] = byte_counts["packed_bytes"] / byte_counts["unpacked_bytes"]
            if name != base:
                distances = measure_distances(logits[base], logits[name])
                metrics |= {key: distances[key] for key in ("RMSE/std", "KL", "top-1 alike")}
            rows += [Row(name, block, metric, value) for metric, value in metrics.items()]
        # short, since all arms write in every round
        length = min(GENERATED_TOKENS, first.settings.model.context)
        return [*self._time_arms(decoders, base, tokens, block=block, length=length), *rows]

    def _time_arms(
        self, decoders: "dict[str, Decoder]", base: str, tokens: "Tensor", *, block: int, length: int
    ) -> list[Row]:
        """Return the times of a pass over `tokens`, and of each of `length` tokens that a decoder writes."""
        from gptlab.generation.generate import generate
        from gptlab.study.tools.timing import time_interleaved

        def generate_text(name: str) -> None:
            for _ in generate(decoders[name], tokens[:1, :1], length):
                pass

        passes = {name: make_forward_pass(decoder, tokens) for name, decoder in decoders.items()}
        # name=name binds it now: a closure would find the last one
        generations = {name: lambda name=name: generate_text(name) for name in decoders}
        rows: list[Row] = []
        for metric, actions, units in (("ms/pass", passes, 1), ("ms/token", generations, length)):
            times = time_interleaved({**actions, AA_CONTROL: actions[base]}, float("inf"), self.rounds)
            time_rows = []
            for name, times_of_arm in times.items():
                time_rows.append(Row(name, block, metric, [ms / units for ms in times_of_arm]))
            # a token's time stands before a pass's, in rows as in tables
            rows = [*time_rows, *rows]
        return rows


def count_stored_bytes(decoder: "Decoder") -> int:
    """Return the bytes of a decoder's tensors, a tied weight once."""
    # by address, so that a tied head and its embedding are one
    by_storage = {tensor.untyped_storage().data_ptr(): tensor.nbytes for tensor in decoder.state_dict().values()}
    return sum(by_storage.values())
