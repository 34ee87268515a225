"""Powers of two, exactly: read off a float's bits or by frexp and made of bits, never by log2 and pow, which are right
only to the last digit. To divide by one and to multiply by it is exact, but for what leaves the floats' range."""

import math

import torch
from torch import Tensor

BITS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}
"""Where a float keeps its exponent: as which integer, above how many fraction digits, plus what."""


def work(x: Tensor, wide: bool = False) -> Tensor:
    """In the dtype in which a format counts: float32, float64 if x is, or if `wide` numbers ask for it."""
    return x.to(torch.promote_types(x.dtype, torch.float64 if wide else torch.float32))


def floor_log2(x: Tensor) -> Tensor:
    """(...) to the largest integers e with 2^e <= |x|; of 0, inf and NaN some number."""
    return torch.frexp(x).exponent - 1


def ceil_log2(x: Tensor) -> Tensor:
    """(...) to the smallest integers e with |x| <= 2^e; of 0 it is 0."""
    mantissa, exponent = torch.frexp(x)
    return exponent - (mantissa.abs() == 0.5).to(exponent.dtype)


def round_log2(x: Tensor) -> Tensor:
    """(...) to the integers nearest to log2 |x|. A mantissa in [1/2, 1) goes up beyond the root of 1/2."""
    mantissa, exponent = torch.frexp(x)
    return exponent - (mantissa * mantissa < 0.5).to(exponent.dtype)


def power(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponent, from its bits; in two halves, since a subnormal has no bits for it."""
    integer, digits, bias = BITS[dtype]
    half = exponent.div(2, rounding_mode="floor").to(integer)
    rest = exponent - half
    return ((half + bias) << digits).view(dtype) * ((rest + bias) << digits).view(dtype)


def shift(x: Tensor, by: Tensor | int) -> Tensor:
    """x 2^by for |by| <= 252, exact but for what underflows: in two halves, as 2^by itself may be no normal number."""
    if isinstance(by, int):
        return x * 2.0 ** (by // 2) * 2.0 ** (by - by // 2)
    half = by.div(2, rounding_mode="floor")
    return x * power(half, x.dtype) * power(by - half, x.dtype)


def binade(x: Tensor, carry: int = 0) -> Tensor:
    """Normal numbers (...) to the powers of two at or below |x|; a carry lifts the largest fractions to the next."""
    integer, digits, bias = BITS[x.dtype]
    return ((x.view(integer) + carry) & (2 * bias + 1 << digits)).view(x.dtype)


def round_float(x: Tensor, digits: int, low: int, high: int, top: float) -> Tensor:
    """To the nearest float of so many fraction digits, ties to even, at most `top`. Its exponent is in low .. high; the
    steps above 2^low go on below it."""
    step = binade(x).clamp_(2.0**low, 2.0**high).mul_(2.0**-digits)
    return (x / step).round_().mul_(step).clamp_(-top, top)


def round_power(x: Tensor, low: int, high: int) -> Tensor:
    """To the power of two nearest in log2 |x|, with its sign, at most 2^high; nearer to one below 2^low, it is 0."""
    _, digits, _ = BITS[x.dtype]
    root = math.isqrt(2 << 2 * digits) + 1  # 2^digits times the least number above the root of 2
    size = x.abs()
    said = binade(size.clamp(2.0**low, 2.0**high), (2 << digits) - root).copysign_(x)
    return torch.where(size >= root * 2.0 ** (low - 1 - digits), said, x * 0)  # NaN stays


def sign(x: Tensor) -> Tensor:
    """1 where x >= 0, also at -0, else -1; NaN stays. (torch.where and masked_fill take twice as long, 2026-11.)"""
    return torch.ones_like(x).copysign_(x + 0.0).add_(x.clamp(-1, 1).mul_(0))
