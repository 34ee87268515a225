"""Ways to write a token with caches, each exact or a known rounding away: what study=decode times.

naive        caches that are allocated once, the plain formula of attention
sdpa         torch's fused attention
compile      a step as one graph (torch.compile)
bf16         weights and activations in bfloat16
int8         weights in int8, a scale a tensor; activations rounded as they come (torch's dynamic quantisation)
int4         weights in int4, a scale and an offset a group of 32; activations in bfloat16 (torch's CPU kernel)
speculative  the first layers guess, all layers read the guesses in one pass
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.errors import Refused
from gptlab.generation.generate import DecodingState, generate
from gptlab.generation.speculative import speculate
from gptlab.model.attention_kernels import kernel
from gptlab.model.compile_policy import missing
from gptlab.model.decoder import Decoder

GROUP = 32


class Rung:
    """A decoder and how it writes: `tokens` greedily, or a given text, whose logits then tell how exact it is."""

    def __init__(self, decoder: Decoder, *, plain: bool = False, compiled: bool = False) -> None:
        self.decoder, self.plain = decoder, plain
        if compiled and (lacking := missing("cpu")):
            raise Refused(f"rung compile needs {lacking}, which is not here; leave it out of study.rungs")
        self.step = torch.compile(decoder.forward, fullgraph=True, dynamic=False) if compiled else None

    def write(self, prompt: Tensor, length: int) -> Tensor:
        """(1, T) continued by (1, length), greedily."""
        with kernel("naive") if self.plain else nullcontext():
            return torch.stack([*self.drawn(prompt, length)], 1)

    def drawn(self, prompt: Tensor, length: int) -> Iterator[Tensor]:
        return generate(self.decoder, prompt, length, temperature=0, step=self.step)

    def logits(self, text: Tensor) -> Tensor:
        """(1, T) to (T, V), read token by token."""
        reader = DecodingState(self.decoder, text[:, :1], text.shape[1] - 1, step=self.step)
        said = []
        with kernel("naive") if self.plain else nullcontext():
            for at in range(1, text.shape[1] + 1):
                said.append(reader.read()[0])
                if at < text.shape[1]:
                    reader.add(text[:, at])
        return torch.cat(said).float()

    def nbytes(self) -> int:
        """Bytes of weights that a token must meet: all but the embeddings, of which it takes a row; a tied head is one
        too, and counts."""
        return sum(_bytes(part) for part in self.decoder.modules() if not isinstance(part, nn.Embedding))


def _bytes(part: Any) -> int:
    if callable(getattr(part, "weight", None)):  # torch's quantised Linear keeps it packed
        return part.weight().numel()
    own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    return sum(one.nbytes for one in own)


class Speculative(Rung):
    """With the first layers as the draft."""

    def __init__(self, decoder: Decoder, layers: int) -> None:
        super().__init__(decoder)
        self.draft = shared(decoder)
        self.draft.blocks = decoder.blocks[:layers]

    def drawn(self, prompt: Tensor, length: int) -> Iterator[Tensor]:
        return speculate(self.decoder, self.draft, prompt, length, temperature=0)


def shared(decoder: Decoder) -> Decoder:
    """Another decoder of the same weights."""
    return copy.deepcopy(decoder, {id(p): p for p in decoder.parameters()})


def in_bf16(decoder: Decoder) -> Rung:
    return Rung(copy.deepcopy(decoder).to(torch.bfloat16))


def in_int8(decoder: Decoder) -> Rung:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is to move to torchao, which has no such CPU kernel
        made: Any = torch.ao.quantization.quantize_dynamic(shared(decoder), {nn.Linear}, dtype=torch.qint8)
    return Rung(made)


def in_int4(decoder: Decoder) -> Rung:
    made = copy.deepcopy(decoder)
    for part in [*made.modules()]:
        for name, child in part.named_children():
            if isinstance(child, nn.Linear):
                setattr(part, name, FourBits(child))
    return Rung(made.to(torch.bfloat16))


class FourBits(nn.Module):
    """A Linear of 16 levels a group: w = scale (level - 8) + middle. Zeros fill up its rows to a multiple of 16, and
    its columns to one of a group."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, self.rows = linear.weight.detach().float(), linear.out_features
        self.more = -weight.shape[1] % GROUP
        weight = nn.functional.pad(weight, (0, self.more, 0, -self.rows % 16))
        groups = weight.unflatten(1, (-1, GROUP))
        low, high = groups.aminmax(dim=-1, keepdim=True)
        scale = ((high - low) / 15).clamp(min=1e-8)
        levels = ((groups - low) / scale).round().clamp(0, 15).to(torch.int32).flatten(1)
        middle = low + 8 * scale
        self.register_buffer("packed", torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.contiguous(), 1))
        self.register_buffer("scales", torch.cat([scale, middle], -1).transpose(0, 1).contiguous())
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        packed, scales = self.packed, self.scales
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(
            nn.functional.pad(x.flatten(0, -2), (0, self.more)), packed, GROUP, scales
        )
        y = y[:, : self.rows].unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


RUNGS: dict[str, Callable[[Decoder, int], Rung]] = {
    "naive": lambda decoder, _: Rung(decoder, plain=True),
    "sdpa": lambda decoder, _: Rung(decoder),
    "compile": lambda decoder, _: Rung(decoder, compiled=True),
    "bf16": lambda decoder, _: in_bf16(decoder),
    "int8": lambda decoder, _: in_int8(decoder),
    "int4": lambda decoder, _: in_int4(decoder),
    "speculative": Speculative,
}
