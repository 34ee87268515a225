"""The config.json of a checkpoint, checked before it is used: which keys there must be, and of which type."""

from collections.abc import Iterator
from typing import Any

from gptlab.config.typecheck import conforms, describe_type, format_value
from gptlab.errors import Refused
from gptlab.weights.pretrained.families import FAMILIES, Config, family, rope

SIZES = {
    "gpt2": ("vocab_size", "n_embd", "n_head", "n_layer", "n_positions"),
    "llama": ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
}
"""Keys without which a config is none, GPT-2's and those of Llama and its kin."""
ALIASES = {
    "n_positions": ("max_position_embeddings", "n_ctx"),
    "n_embd": ("hidden_size",),
    "n_head": ("num_attention_heads",),
    "n_layer": ("num_hidden_layers",),
}
"""Other names of GPT-2's keys, which transformers takes too."""
WHOLE = ("n_inner", "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window")
TYPES: dict[str, Any] = {
    **dict.fromkeys(("layer_norm_epsilon", "rms_norm_eps", "rope_theta", "partial_rotary_factor"), float),
    **dict.fromkeys(("activation_function", "hidden_act", "model_type"), str),
    **dict.fromkeys(("scale_attn_weights", "tie_word_embeddings", "attention_bias", "mlp_bias"), bool),
    **dict.fromkeys(("use_sliding_window", "add_cross_attention", "scale_attn_by_inverse_layer_idx"), bool),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), dict[str, Any]),
    "max_window_layers": int,
    "layer_types": list[str],
}
"""What the other keys that are read must be, where they are there."""
ROPE_TYPES: dict[str, Any] = {
    **dict.fromkeys(("factor", "rope_theta", "low_freq_factor", "high_freq_factor", "beta_slow", "beta_fast"), float),
    **dict.fromkeys(("rope_type", "type"), str),
    "partial_rotary_factor": float,
    "original_max_position_embeddings": int,
}
ROPE_NEEDS = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""Keys without which a scaling of positions is none."""


def check_config(config: Config) -> Config:
    """Return a config.json without nulls and aliases, or refuse it where a key is missing or of another type."""
    told = {key: value for key, value in config.items() if value is not None}
    kind = "gpt2" if family(told) is FAMILIES["gpt2"] else "llama"
    if kind == "gpt2":
        for key, others in ALIASES.items():
            for other in others:
                if other in told:
                    told.setdefault(key, told[other])
    wrong = [f"no {key}" for key in SIZES[kind] if key not in told]
    for key in (*SIZES[kind], *WHOLE):
        if key in told and (not conforms(told[key], int) or told[key] < 1):
            wrong.append(f"{key}={format_value(told[key])}, which is no whole number > 0")
    wrong += list(_mistyped(told, TYPES, ""))
    if not wrong:
        wrong = list(_rope_wrong(told))
    if wrong:
        raise Refused(f"pretrained: config.json has {'; '.join(wrong)}; fetch it again or mend it")
    return told


def _mistyped(told: Config, types: dict[str, Any], path: str) -> Iterator[str]:
    for key, wanted in types.items():
        if told.get(key) is not None and not conforms(told[key], wanted):
            yield f"{path}{key}={format_value(told[key])}, which is not {describe_type(wanted, told[key])}"


def _rope_wrong(config: Config) -> Iterator[str]:
    for key in ("rope_parameters", "rope_scaling"):
        yield from _mistyped(config.get(key, {}), ROPE_TYPES, f"{key}.")
    scaling = config.get("rope_scaling") or {}
    if scaling and not (scaling.get("rope_type") or scaling.get("type")):
        yield "a rope_scaling without rope_type"
    told = rope(config)
    for key in ROPE_NEEDS.get(str(told["rope_type"]), ()):
        if told.get(key) is None:
            yield f"rope_type={told['rope_type']} without {key}"
