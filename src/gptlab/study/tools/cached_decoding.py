"""Decoding variants with caches, exact or up to a known rounding: what study=decode times.

naive        caches that are allocated once, the plain formula of attention
sdpa         torch's fused attention
compile      a step as one graph (torch.compile)
bf16         weights and activations in bfloat16
int8         weights in int8, a scale a tensor; activations rounded as they come (torch's dynamic quantisation)
int4         weights in int4, a scale and an offset a group of 32; activations in bfloat16 (torch's CPU kernel)
speculative  the first layers draft, all layers read the draft in one pass
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
from gptlab.model.attention_kernels import force_kernel
from gptlab.model.compile_policy import find_missing_dependency
from gptlab.model.decoder import Decoder

GROUP_SIZE = 32


class DecodingVariant:
    """A decoder and its way to generate; it can also read a given text, whose logits show how exact it is.

    plain     attention by the plain formula
    compiled  the step as one graph
    """

    def __init__(self, decoder: Decoder, *, plain: bool = False, compiled: bool = False) -> None:
        self.decoder, self.plain = decoder, plain
        if compiled and (lacking := find_missing_dependency("cpu")):
            raise Refused(f"decoding variant compile needs {lacking}, which is not here; leave it out of study.rungs")
        # dynamic=False: a step has one shape; fullgraph, so that a break is an error and no slow path
        self.step = torch.compile(decoder.forward, fullgraph=True, dynamic=False) if compiled else None

    def write(self, prompt: Tensor, length: int) -> Tensor:
        """Continue a prompt (1, T) by (1, length) tokens, greedily."""
        with force_kernel("naive") if self.plain else nullcontext():
            return torch.stack([*self.generate_tokens(prompt, length)], 1)

    def generate_tokens(self, prompt: Tensor, length: int) -> Iterator[Tensor]:
        """Yield tokens (1,), the likeliest one each time."""
        return generate(self.decoder, prompt, length, temperature=0, step=self.step)

    def compute_logits(self, text: Tensor) -> Tensor:
        """Return the logits (T, V) of a text (1, T), read token by token."""
        state = DecodingState(self.decoder, text[:, :1], text.shape[1] - 1, step=self.step)
        logits = []
        with force_kernel("naive") if self.plain else nullcontext():
            for position in range(1, text.shape[1] + 1):
                logits.append(state.read()[0])
                if position < text.shape[1]:
                    state.append(text[:, position])
        return torch.cat(logits).float()

    def count_weight_bytes(self) -> int:
        """Return the bytes of weights that a token needs: all but the embeddings, of which it takes a row.

        A tied head is an embedding too, and counts.
        """
        return sum(_count_bytes(part) for part in self.decoder.modules() if not isinstance(part, nn.Embedding))


def _count_bytes(module: Any) -> int:
    """Return the bytes of a module's own tensors."""
    if callable(getattr(module, "weight", None)):  # torch's quantised Linear keeps it packed
        return module.weight().numel()
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(tensor.nbytes for tensor in tensors)


class SpeculativeVariant(DecodingVariant):
    """Speculative decoding with the first layers as the draft."""

    def __init__(self, decoder: Decoder, layers: int) -> None:
        super().__init__(decoder)
        self.draft = share_weights(decoder)
        self.draft.blocks = decoder.blocks[:layers]

    def generate_tokens(self, prompt: Tensor, length: int) -> Iterator[Tensor]:
        return speculate(self.decoder, self.draft, prompt, length, temperature=0)


def share_weights(decoder: Decoder) -> Decoder:
    """Return another decoder of the same weights."""
    # deepcopy's memo holds the parameters, so it copies the modules alone
    return copy.deepcopy(decoder, {id(p): p for p in decoder.parameters()})


def convert_to_bf16(decoder: Decoder) -> DecodingVariant:
    """Return the variant whose weights and activations are bfloat16."""
    return DecodingVariant(copy.deepcopy(decoder).to(torch.bfloat16))


def convert_to_int8(decoder: Decoder) -> DecodingVariant:
    """Return the variant whose Linears have int8 weights."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is to move to torchao, which has no such CPU kernel
        quantized: Any = torch.ao.quantization.quantize_dynamic(share_weights(decoder), {nn.Linear}, dtype=torch.qint8)
    return DecodingVariant(quantized)


def convert_to_int4(decoder: Decoder) -> DecodingVariant:
    """Return the variant whose Linears have int4 weights."""
    quantized = copy.deepcopy(decoder)
    for part in [*quantized.modules()]:
        for name, child in part.named_children():
            if isinstance(child, nn.Linear):
                setattr(part, name, Int4Linear(child))
    return DecodingVariant(quantized.to(torch.bfloat16))


class Int4Linear(nn.Module):
    """A Linear of 16 levels a group: w = scale (level - 8) + zero_point.

    Zeros pad its rows to a multiple of 16, and its columns to a multiple of GROUP_SIZE.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, self.rows = linear.weight.detach().float(), linear.out_features
        self.column_padding = -weight.shape[1] % GROUP_SIZE
        weight = nn.functional.pad(weight, (0, self.column_padding, 0, -self.rows % 16))
        groups = weight.unflatten(1, (-1, GROUP_SIZE))  # (out, N, GROUP_SIZE)
        low, high = groups.aminmax(dim=-1, keepdim=True)
        # clamped, so that a group of equal weights does not divide by 0
        scale = ((high - low) / 15).clamp(min=1e-8)
        levels = ((groups - low) / scale).round().clamp(0, 15).to(torch.int32).flatten(1)
        zero_point = low + 8 * scale
        self.register_buffer("packed", torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.contiguous(), 1))
        self.register_buffer("scales", torch.cat([scale, zero_point], -1).transpose(0, 1).contiguous())  # (N, out, 2)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        packed, scales = self.packed, self.scales
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(
            nn.functional.pad(x.flatten(0, -2), (0, self.column_padding)), packed, GROUP_SIZE, scales
        )
        y = y[:, : self.rows].unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


CACHED_VARIANTS: dict[str, Callable[[Decoder, int], DecodingVariant]] = {
    "naive": lambda decoder, _: DecodingVariant(decoder, plain=True),
    "sdpa": lambda decoder, _: DecodingVariant(decoder),
    "compile": lambda decoder, _: DecodingVariant(decoder, compiled=True),
    "bf16": lambda decoder, _: convert_to_bf16(decoder),
    "int8": lambda decoder, _: convert_to_int8(decoder),
    "int4": lambda decoder, _: convert_to_int4(decoder),
    "speculative": SpeculativeVariant,
}
