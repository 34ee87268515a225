"""Powers of two, exactly. Exponents are read by frexp, never by log2, and shifts multiply by powers made of bits: log2
and pow are right only to the last digit, and here that digit is a binade."""

import torch
from torch import Tensor

BITS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}
"""Where a float keeps its exponent: as which integer, above how many bits, plus what."""


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


def shift(x: Tensor, by: Tensor | int) -> Tensor:
    """x 2^by for |by| <= 252, exact but for what underflows: in two halves, as 2^by itself may be no normal number."""
    if isinstance(by, int):
        return x * 2.0 ** (by // 2) * 2.0 ** (by - by // 2)
    half = by.div(2, rounding_mode="floor")
    return x * power(half, x.dtype) * power(by - half, x.dtype)


def power(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponent of a normal number, from its bits."""
    integer, digits, bias = BITS[dtype]
    return ((exponent.to(integer) + bias) << digits).view(dtype)


def round_float(x: Tensor, digits: int, low: int, high: int, top: float) -> Tensor:
    """To the nearest float of so many fraction digits, ties to even, at most `top`. Its exponent is in low .. high; the
    steps above 2^low go on below it."""
    exponent = floor_log2(x).clamp(low, high) - digits
    return shift(shift(x, -exponent).round(), exponent).clamp(-top, top)


def round_power(x: Tensor, low: int, high: int) -> Tensor:
    """To the power of two nearest in log2 |x|, with its sign, at most 2^high; nearer to one below 2^low, it is 0."""
    x = x.clamp(-(2.0**high), 2.0**high)
    exponent = round_log2(x)
    said = shift(torch.ones_like(x).copysign(x), exponent.clamp(low, high))
    return torch.where((exponent >= low) & (x.abs() > 0), said, x * 0)  # NaN stays
