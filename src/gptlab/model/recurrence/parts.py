"""Parts that recurrent mixers share: the short convolution before them and the time scales on which they forget."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gptlab.model.documents import forget_at_borders, hide_other_documents
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.recurrence.linear_state import Rewrite, mix

LONGEST_MEMORY, SHORTEST_MEMORY = 0.001, 0.1
"""Range of the first steps of a time scale, drawn evenly in their logarithm (Mamba, arXiv:2312.00752, section 3.6)."""


def hide_padding(x: Tensor, forward_pass: ForwardPass) -> Tensor:
    """Return x (B, T, ...) with 0 in the place of padding."""
    # 0 .. T-1 in every row: there is no padding, and no product is spent on it
    if forward_pass.default_positions:
        return x
    is_token = forward_pass.positions >= 0
    return x * is_token.view(*is_token.shape, *[1] * (x.ndim - 2))


def normalize_length(x: Tensor) -> Tensor:
    """Return x (..., D) with vectors of length 1, and of 0 where they are 0."""
    # 1e-6 under the root: a vector of zeros stays 0 and has a finite gradient
    return x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


def apply_delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor,
    forward_pass: ForwardPass,
    state: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Return what q reads, (B, T, H, E), from a state in which v replaces beta of what k found, and the next state.

    q and k (B, T, H, D) are brought to length 1; v (B, T, H, E), beta (B, T, H, 1), log_decay (B, T, H, 1 or D).
    """
    # a key of length 1 makes 1 - beta k k^T a contraction for beta in 0 .. 2: states cannot explode
    q, k = normalize_length(q) * q.shape[-1] ** -0.5, normalize_length(k)
    written = hide_padding(beta * k, forward_pass)
    log_decay = forget_at_borders(hide_padding(log_decay, forward_pass), forward_pass)
    return mix(q, written, v, log_decay, state=state, chunk=chunk, rewrite=Rewrite(-k))


class ShortConv(nn.Module):
    """Causal convolution of each channel with itself: y_t = sum_i taps_i x_(t - size + 1 + i), the last tap for t.

    Written as shifted products: of four taps a convolution's own kernel is no quicker on CPU, and Linears stay the only
    modules whose weights meet activations in a matrix product. Starts as nn.Conv1d does. Padding is read as 0; it must
    stand before the tokens.
    """

    def __init__(self, channels: int, size: int, bias: bool = False) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"conv={size} sees nothing; give a number of tokens > 0, its own counted")
        self.size = size
        self.taps = nn.Parameter(torch.empty(size, channels))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the taps, and the bias, from U(-1 / sqrt(size), 1 / sqrt(size))."""
        for p in self.parameters():
            nn.init.uniform_(p, -(self.size**-0.5), self.size**-0.5)

    def forward(self, x: Tensor, forward_pass: ForwardPass, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (B, T, channels) for x of that shape, and the last size - 1 inputs: `past` holds those before x."""
        length = x.shape[1]
        # (B, size - 1 + T, channels)
        joined = torch.cat([past.to(x.dtype), hide_padding(x, forward_pass)], 1)
        y: Any = self.convolve_documents(joined, forward_pass)
        return y if self.bias is None else y + self.bias, joined[:, length:]

    def convolve_documents(self, joined: Tensor, forward_pass: ForwardPass) -> Any:
        """Return the products (B, T, channels) for inputs (B, size - 1 + T, channels), none across a border."""
        if forward_pass.documents is None:
            return ShiftedProducts.apply(joined, self.taps)
        length = forward_pass.documents.shape[1]
        y: Any = 0
        for place in range(self.size):
            # what this tap reads stands so many tokens before what it is summed into
            back = self.size - 1 - place
            inputs = hide_other_documents(joined[:, place : place + length], forward_pass, back)
            y = y + self.taps[place] * inputs
        return y

    def project(
        self, x: Tensor, linears: Sequence[nn.Linear], widths: list[int], forward_pass: ForwardPass, past: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return swish(conv(linear(x))) for each of some Linears, as wide as `widths`, and the last inputs as above."""
        y, past = self(torch.cat([linear(x) for linear in linears], -1), forward_pass, past)
        return F.silu(y).split(widths, -1), past

    @property
    def past_shape(self) -> tuple[int, int]:
        """Shape of the inputs that one sequence remembers."""
        return self.size - 1, self.taps.shape[1]


class ShiftedProducts(Function):
    """sum_i taps_i x_(t + i) for x (B, T + size - 1, channels) and taps (size, channels), (B, T, channels).

    By hand, since autograd makes a tensor of x's size for each tap: 4 ms forward and back against 8 (12 x 64 x 384, one
    thread, 2026-11).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        length = x.shape[1] - len(taps) + 1
        # taps[0] meets the oldest input
        y = taps[0] * x[:, :length]
        for place in range(1, len(taps)):
            y.addcmul_(taps[place], x[:, place : place + length])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, taps = ctx.saved_tensors
        length, dx, d_taps = dy.shape[1], torch.zeros_like(x), []
        for place in range(len(taps)):
            span = slice(place, place + length)
            # each input was read by `size` outputs, whose gradients add up
            dx[:, span].addcmul_(taps[place], dy)
            d_taps.append((x[:, span] * dy).sum((0, 1)))
        return dx, torch.stack(d_taps)


class TimeScale(nn.Module):
    """Steps by which a state decays: step = softplus(x + shift), log decay = -rate step (Mamba-2, arXiv:2405.21060).

    rates   numbers of their own, one for each head; drawn from U(least_rate, 16) and kept by their logarithm
    shifts  one for each feature of x, a multiple of `rates`; drawn such that softplus(shift) is in 0.001 .. 0.1
    """

    def __init__(self, rates: int, shifts: int, least_rate: float = 1.0) -> None:
        super().__init__()
        self.least_rate = least_rate
        self.log_rate = nn.Parameter(torch.empty(rates))
        self.shift = nn.Parameter(torch.empty(shifts))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw rates and shifts."""
        self.log_rate.uniform_(self.least_rate, 16).log_()
        step = torch.empty_like(self.shift).uniform_(math.log(LONGEST_MEMORY), math.log(SHORTEST_MEMORY)).exp()
        self.shift.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the steps and the log decays, both (..., heads, features) for x (..., shifts), in float32 at least."""
        wide = torch.promote_types(x.dtype, torch.float32)
        step = F.softplus(x.to(wide) + self.shift).unflatten(-1, (len(self.log_rate), -1))
        return step, -self.log_rate.exp()[:, None] * step
