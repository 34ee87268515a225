"""Ranges of the keys of a config that are no slots; types are checked before."""

from collections.abc import Iterator
from typing import Any

POSITIVE_KEYS = (
    *("steps", "batch_size", "accumulate", "vocab_multiple", "clip", "max_minutes", "log_every", "save_every"),
    *("save_minutes", "evaluation.final"),
    *(f"model.{size}" for size in ("width", "heads", "layers", "context", "batch_size", "lr", "head", "loops")),
    *("evaluation.every", "evaluation.tokens", "sample.length", "sample.top_k"),
)

LARGEST = {"sample.count": 10**6, "sample.length": 10**7}
"""Samples are written when all steps are done, at once in one batch: too late to find that there is no room."""
DEEPEST = 2000
"""Layers at most: twice those of the deepest decoders (DeepNet, arXiv:2203.00555); more are planned for minutes."""


def check_ranges(values: dict[str, Any]) -> Iterator[str]:
    """Yield a complaint for each value out of range, of settings by their dotted keys."""
    for key in POSITIVE_KEYS:
        if (value := values.get(key)) is not None and value <= 0:
            yield f"{key}={value} is not positive; give a number > 0"
    for key, largest in LARGEST.items():
        if values[key] > largest:
            yield f"{key}={values[key]} is more than {largest:,}; `python -m gptlab sample` writes more from the run"
    if values["model.layers"] * values["model.loops"] > DEEPEST:
        asked = " x ".join(f"model.{size}={values[f'model.{size}']}" for size in ("layers", "loops"))
        yield f"{asked} is more than {DEEPEST:,} layers; give fewer"
    if (scale := values.get("embedding_scale", 1.0)) != "sqrt_width" and scale <= 0:
        yield f"embedding_scale={scale} is not positive; 1 leaves embeddings as they are, sqrt_width is Gemma's"
    if not 0 <= values["dropout"] < 1:
        yield f"dropout={values['dropout']} is not in [0, 1); 0 drops nothing"
    if values["sample.top_p"] is not None and not 0 < values["sample.top_p"] <= 1:
        yield f"sample.top_p={values['sample.top_p']} is not in (0, 1]; null draws from all tokens"
    if values["sample.temperature"] < 0:
        yield f"sample.temperature={values['sample.temperature']} is negative; 0 takes the likeliest token"
    if values["sample.count"] < 0:
        yield f"sample.count={values['sample.count']} is negative; 0 draws no samples"
    if values["accumulate"] > 0 and values["batch_size"] % values["accumulate"]:
        yield f"accumulate={values['accumulate']} does not divide batch_size={values['batch_size']}; try 1"
    if values["seed"] < 0:
        yield f"seed={values['seed']} is not in 0 .. 2^63 - 1; try 0"
