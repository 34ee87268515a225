"""JSON as the standard has it, for files and for programs that read our output."""

import json
import math
from typing import Any


def to_json(value: Any, indent: int | None = None) -> str:
    """Return strict JSON; what is not finite becomes null."""
    # JSON has no NaN: Python's own would be refused by every other reader
    text = json.dumps(_replace_non_finite(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return text.encode(errors="backslashreplace").decode()  # half a surrogate pair, of a file name that is no UTF-8


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    return [_replace_non_finite(item) for item in value] if isinstance(value, list | tuple) else value
