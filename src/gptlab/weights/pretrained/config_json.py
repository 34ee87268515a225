"""Checks of a checkpoint's config.json before it is used: which keys it must have, and of which type."""

from collections.abc import Iterator
from typing import Any

from gptlab.config.typecheck import conforms, describe_type, format_value
from gptlab.errors import Refused
from gptlab.weights.pretrained.families import FAMILIES, Config, find_family, read_rope_settings

SIZES = {
    "gpt2": ("vocab_size", "n_embd", "n_head", "n_layer", "n_positions"),
    "llama": ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
}
"""Required keys, of GPT-2 and of the Llama-like families."""
ALIASES = {
    "n_positions": ("max_position_embeddings", "n_ctx"),
    "n_embd": ("hidden_size",),
    "n_head": ("num_attention_heads",),
    "n_layer": ("num_hidden_layers",),
}
"""Other names of GPT-2's keys, which transformers accepts too."""
INTEGERS = ("n_inner", "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window")
"""Optional keys whose values must be integers > 0."""
TYPES: dict[str, Any] = {
    **dict.fromkeys(("layer_norm_epsilon", "rms_norm_eps", "rope_theta", "partial_rotary_factor"), float),
    **dict.fromkeys(("activation_function", "hidden_act", "model_type"), str),
    **dict.fromkeys(("scale_attn_weights", "tie_word_embeddings", "attention_bias", "mlp_bias"), bool),
    **dict.fromkeys(("use_sliding_window", "add_cross_attention", "scale_attn_by_inverse_layer_idx"), bool),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), dict[str, Any]),
    "max_window_layers": int,
    "layer_types": list[str],
}
"""Types of the other keys that are read, where they are given."""
ROPE_TYPES: dict[str, Any] = {
    **dict.fromkeys(("factor", "rope_theta", "low_freq_factor", "high_freq_factor", "beta_slow", "beta_fast"), float),
    **dict.fromkeys(("rope_type", "type"), str),
    "partial_rotary_factor": float,
    "original_max_position_embeddings": int,
}
"""Types of the keys of rope_scaling and rope_parameters."""
ROPE_NEEDS = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Required keys of each kind of position scaling."""


def check_config(config: Config) -> Config:
    """Return a config.json without nulls and aliases; refuse it where a key is missing or of another type."""
    # null in a config.json means the family's default, as a missing key does
    checked = {key: value for key, value in config.items() if value is not None}
    # also refuses a family that nobody knows, before its keys are asked for
    sizes = "gpt2" if find_family(checked) is FAMILIES["gpt2"] else "llama"
    if sizes == "gpt2":
        for key, aliases in ALIASES.items():
            for alias in aliases:
                if alias in checked:
                    checked.setdefault(key, checked[alias])
    problems = [f"no {key}" for key in SIZES[sizes] if key not in checked]
    for key in (*SIZES[sizes], *INTEGERS):
        if key in checked and (not conforms(checked[key], int) or checked[key] < 1):
            problems.append(f"{key}={format_value(checked[key])}, which is no whole number > 0")
    problems += list(_find_mistyped(checked, TYPES, ""))
    # the checks of rotary settings rely on types
    if not problems:
        problems = list(_find_rope_problems(checked))
    if problems:
        raise Refused(f"pretrained: config.json has {'; '.join(problems)}; fetch it again or mend it")
    return checked


def _find_mistyped(config: Config, types: dict[str, Any], path: str) -> Iterator[str]:
    """Yield a complaint for each key whose value is not of the type in `types`; `path` is put before the key."""
    for key, expected in types.items():
        if config.get(key) is not None and not conforms(config[key], expected):
            yield f"{path}{key}={format_value(config[key])}, which is not {describe_type(expected, config[key])}"


def _find_rope_problems(config: Config) -> Iterator[str]:
    """Yield a complaint for each wrong or missing rotary setting."""
    for key in ("rope_parameters", "rope_scaling"):
        yield from _find_mistyped(config.get(key, {}), ROPE_TYPES, f"{key}.")
    scaling = config.get("rope_scaling") or {}
    if scaling and not (scaling.get("rope_type") or scaling.get("type")):
        yield "a rope_scaling without rope_type"
    rope = read_rope_settings(config)
    for key in ROPE_NEEDS.get(str(rope["rope_type"]), ()):
        if rope.get(key) is None:
            yield f"rope_type={rope['rope_type']} without {key}"
