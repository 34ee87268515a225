"""Rotary positions (RoFormer, arXiv:2104.09864): scores depend on distance alone.

    angle_i = position theta^(-2i / D)        (a, b) -> (a cos - b sin, a sin + b cos)

Pairs are half-split, (i, i + D/2), as in GPT-NeoX and Hugging Face's Llama. `fraction` < 1 turns only the first part of
each head (GPT-NeoX, Phi). A list of thetas is tiled over the layers, as a pattern's layout is: 10^4 for layers that see
a window, 10^6 for those that see everything (Gemma 3, arXiv:2503.19786). `scaling` is for a context longer than the one
that was trained on: see rope_scaling.py.

kept < 1 turns the fastest pairs alone, as far as that part goes: p-RoPE (Barbero 2024, arXiv:2410.06205), whose slowest
pairs carry content over any distance. nope_every=4 leaves every fourth layer without positions: RNoPE (Yang 2025,
arXiv:2501.18795), SmolLM3, Llama 4.
"""

import torch
from torch import Tensor

from gptlab.model.fused_ops import rotate_halves
from gptlab.model.position import Position
from gptlab.model.rope_scaling import Scaling, ScalingKind, attention_factor, compute_frequencies
from gptlab.model.shape import Shape


class Rope(Position):
    """Rotary positions on queries and keys. Angles are computed in float32 or better.

    theta     base of the frequencies; a list is tiled over the layers
    last      theta of the last layer, whatever the list says; null is as tiled
    fraction  part of each head that is rotated; 1 is the whole head
    kept      part of the pairs, fastest first, that are rotated; 1 is all
    nope_every  every so many layers one, the last of them, rotates nothing; null is none
    scaling   formula for a longer context, see rope_scaling.py; null is none
    factor    how much longer than `original`
    original  context that was trained on; null is model.context
    low       turns within `original` below which llama3 and yarn divide frequencies by the factor
    high      turns above which they leave them; null is 4, for yarn 32
    """

    provides = frozenset({"rotate"})

    def __init__(
        self,
        shape: Shape,
        *,
        theta: float | list[float] = 10000.0,
        last: float | None = None,
        fraction: float = 1.0,
        kept: float = 1.0,
        nope_every: int | None = None,
        scaling: ScalingKind | None = None,
        factor: float = 1.0,
        original: int | None = None,
        low: float = 1.0,
        high: float | None = None,
    ) -> None:
        super().__init__(shape)
        if scaling is None and factor != 1:
            raise ValueError(f"factor={factor} stretches nothing while scaling=null; try scaling=yarn")
        original = shape.context if original is None else original
        self.scaling = Scaling(kind=scaling, factor=factor, original=original, low=low, high=high) if scaling else None
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction} is not in (0, 1]; 1 turns the whole head")
        if not 0 < kept <= 1:
            raise ValueError(f"kept={kept} is not in (0, 1]; 1 turns all pairs")
        if nope_every is not None and not 1 < nope_every <= shape.layers:
            raise ValueError(
                f"nope_every={nope_every} is not in 2 .. model.layers={shape.layers}: none or all would be without "
                "positions; take another, or null"
            )
        self.kept, self.nope_every = kept, nope_every
        self.thetas = theta if isinstance(theta, list) else [theta]
        if not self.thetas or min(self.thetas) <= 0:
            raise ValueError(f"theta={theta} is not positive; try 10000")
        if last is not None:
            if last <= 0:
                raise ValueError(f"last={last} is not positive; try 1000000, or null for the same as theta")
            # the list is written out for every layer, so that the last one can differ whatever the tiling gives it
            tiled = [self.thetas[layer % len(self.thetas)] for layer in range(shape.layers - 1)]
            self.thetas = [*tiled, last]
        self.fraction = fraction
        self.cache_version: tuple[Tensor, int] | None = None
        self.cos_sin_cache: dict[tuple, tuple[Tensor, Tensor]] = {}
        # for its refusal, before anything is built
        if self.rotated_width(shape.head) == 2 and scaling == "ntk":
            raise ValueError("scaling=ntk slows no pair down where there is one; try scaling=linear, or a wider head")

    def rotated_width(self, width: int) -> int:
        """Return how many features of a head of this width are rotated. Raises ValueError if that is odd or 0."""
        rotated = int(width * self.fraction)
        if rotated % 2 or not rotated:
            raise ValueError(
                f"fraction={self.fraction} turns {rotated} of the {width} features of a head, "
                "which is not an even number; change it, model.width, model.heads or model.head"
            )
        return rotated

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        if self.nope_every and (layer + 1) % self.nope_every == 0:
            return q, k
        cos, sin = self.cached_cos_sin(positions, q, layer)
        return rotate_first_features(q, k, cos, sin)

    def cached_cos_sin(self, positions: Tensor, q: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Return cos and sin for these queries, each (B|1, T, 1 or H, width).

        In training they are computed once for all layers of a pass, which share `positions`, and written out for each
        head: a product along memory takes half the time of one that jumps (2026-11).
        """
        theta, width = self.thetas[layer % len(self.thetas)], self.rotated_width(q.shape[-1])
        # A compiler fuses the angles into their use. In decoding positions are new at each step, and tensors made in
        # inference mode have no version to compare.
        if torch.compiler.is_compiling() or not torch.is_grad_enabled() or positions.is_inference():
            return self.compute_cos_sin(positions, width, q, theta)
        cached_positions, cached_version = self.cache_version or (None, None)
        # `is`, since comparing values would wait for a GPU; the version shows writes in place
        if cached_positions is not positions or cached_version != positions._version:
            self.cache_version, self.cos_sin_cache = (positions, positions._version), {}
        key = (theta, q.shape[2:], q.dtype)
        if key not in self.cos_sin_cache:
            cos, sin = self.compute_cos_sin(positions, width, q, theta)
            self.cos_sin_cache[key] = cos.repeat(1, 1, q.shape[2], 1), sin.repeat(1, 1, q.shape[2], 1)
        return self.cos_sin_cache[key]

    def compute_cos_sin(self, positions: Tensor, width: int, like: Tensor, theta: float) -> tuple[Tensor, Tensor]:
        """Return cos and signed sin, each (B|1, T, 1, width), for positions (B|1, T)."""
        # bfloat16 holds whole numbers to 256 only: later positions would share their angles
        dtype = torch.promote_types(like.dtype, torch.float32)
        pair = torch.arange(0, width, 2, device=positions.device, dtype=dtype)
        # (B|1, T, width / 2), in radians
        frequencies = compute_frequencies(pair, width, theta, self.scaling)
        if self.kept < 1:
            frequencies = frequencies * (pair < self.kept * width)
        angle = positions[..., None].to(dtype) * frequencies
        factor = attention_factor(self.scaling)
        cos, sin = angle.cos(), angle.sin()
        if factor != 1:
            cos, sin = cos * factor, sin * factor
        # signed as rotate_halves wants it, which multiplies sin by x with the halves swapped, (b, a)
        cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        return cos[:, :, None].to(like.dtype), sin[:, :, None].to(like.dtype)


def rotate_first_features(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate the first features of q (B, T, H, D) and k (B, T, K, D), as many as cos and sin have."""
    width = cos.shape[-1]
    if width == q.shape[-1]:
        return rotate_halves(q, k, cos, sin)
    first_q, first_k = rotate_halves(q[..., :width], k[..., :width], cos, sin)
    return torch.cat([first_q, q[..., width:]], -1), torch.cat([first_k, k[..., width:]], -1)
