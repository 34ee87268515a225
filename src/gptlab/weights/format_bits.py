"""Exact powers of two, from the bits of floats.

Exponents are read off a float's bits or by frexp and made into bits, never by log2 and pow, which are right only to the
last digit. Dividing and multiplying by a power of two is exact, but for what leaves the floats' range.
"""

import math

import torch
from torch import Tensor

FLOAT_LAYOUTS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}
"""Integer dtype, fraction digits, and bias of the exponent, by float dtype."""


def to_compute_dtype(x: Tensor, wide: bool = False) -> Tensor:
    """Return x in the dtype in which formats compute: float32, or float64 if x or `wide` asks for it."""
    return x.to(torch.promote_types(x.dtype, torch.float64 if wide else torch.float32))


def floor_log2(x: Tensor) -> Tensor:
    """Return the largest integers e with 2^e <= |x|; of 0, inf and NaN some number."""
    # frexp's mantissa is in [1/2, 1), so its exponent is one more
    return torch.frexp(x).exponent - 1


def ceil_log2(x: Tensor) -> Tensor:
    """Return the smallest integers e with |x| <= 2^e; of 0 it is 0."""
    mantissa, exponent = torch.frexp(x)
    # a mantissa of exactly 1/2 is a power of two, which needs no rounding up
    return exponent - (mantissa.abs() == 0.5).to(exponent.dtype)


def round_log2(x: Tensor) -> Tensor:
    """Return the integers nearest to log2 |x|. A mantissa in [1/2, 1) goes up beyond the root of 1/2."""
    mantissa, exponent = torch.frexp(x)
    return exponent - (mantissa * mantissa < 0.5).to(exponent.dtype)


def exp2(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 2^exponent, from its bits; in two halves, since a subnormal has no bits for it."""
    integer, digits, bias = FLOAT_LAYOUTS[dtype]
    lower = exponent.div(2, rounding_mode="floor").to(integer)
    upper = exponent - lower
    return ((lower + bias) << digits).view(dtype) * ((upper + bias) << digits).view(dtype)


def ldexp(x: Tensor, exponent: Tensor | int) -> Tensor:
    """Return x 2^exponent for |exponent| <= 252, exact but for underflow.

    In two halves, as 2^exponent itself may be no normal number.
    """
    if isinstance(exponent, int):
        return x * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2)
    half = exponent.div(2, rounding_mode="floor")
    return x * exp2(half, x.dtype) * exp2(exponent - half, x.dtype)


def floor_power(x: Tensor, carry: int = 0) -> Tensor:
    """Return the powers of two at or below |x|, of normal numbers; a carry lifts the largest fractions to the next."""
    integer, digits, bias = FLOAT_LAYOUTS[x.dtype]
    # the mask keeps the exponent's bits alone; a carry into them is how the fraction rounds up
    return ((x.view(integer) + carry) & (2 * bias + 1 << digits)).view(x.dtype)


def round_float(x: Tensor, digits: int, low: int, high: int, largest: float) -> Tensor:
    """Round to the nearest float of `digits` fraction digits, ties to even, at most `largest`.

    Its exponent is in low .. high; the steps above 2^low go on below it.
    """
    # clamped at the bottom, steps stop shrinking: these are the subnormals
    step = floor_power(x).clamp_(2.0**low, 2.0**high).mul_(2.0**-digits)
    return (x / step).round_().mul_(step).clamp_(-largest, largest)


def round_power(x: Tensor, low: int, high: int) -> Tensor:
    """Round to the power of two nearest in log2 |x|, with its sign, at most 2^high; nearer to one below 2^low, to 0."""
    _, digits, _ = FLOAT_LAYOUTS[x.dtype]
    root = math.isqrt(2 << 2 * digits) + 1  # 2^digits times the least number above the root of 2
    magnitude = x.abs()
    rounded = floor_power(magnitude.clamp(2.0**low, 2.0**high), (2 << digits) - root).copysign_(x)
    return torch.where(magnitude >= root * 2.0 ** (low - 1 - digits), rounded, x * 0)  # NaN stays


def sign(x: Tensor) -> Tensor:
    """Return 1 where x >= 0, also at -0, else -1; NaN stays.

    torch.where and masked_fill take twice as long (2026-11).
    """
    # x + 0.0 makes -0 into 0; the added 0 is NaN where x is
    return torch.ones_like(x).copysign_(x + 0.0).add_(x.clamp(-1, 1).mul_(0))
