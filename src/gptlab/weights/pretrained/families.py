"""What the families of Hugging Face checkpoints are in our choices: config.json to overrides, their names to ours.

A config says what was computed, not only how large it was: an activation, an epsilon, a scaling that our slots cannot
express is refused by name. Both spellings of rotary settings are read: rope_theta and rope_scaling (files of the hub),
and rope_parameters (transformers 5).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gptlab.errors import Refused
from gptlab.weights.pretrained.mapping import Mapping, parse

Config = dict[str, Any]
Knobs = dict[str, Any]
BLOCK = "blocks.{i}."
RESIDUALS = {"attention": f"{BLOCK}attention_residual.norm.", "mlp": f"{BLOCK}mlp_residual.norm."}
LONGEST = 1024
"""Tokens of training context at most where positions know more; model.context=<more> asks for it."""


@dataclass(frozen=True)
class Family:
    """`knobs`: a config to overrides of train.py. `names`: source keys to ours, without the prefix. `missing`: what our
    slots cannot express."""

    prefix: str
    embedding: str
    knobs: Callable[[Config], Knobs]
    names: Callable[[Config], Mapping]
    missing: Callable[[Config], Iterator[str]]


def family(config: Config) -> Family:
    """By model_type."""
    kind = config.get("model_type", "none")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise Refused(f"pretrained: model_type={kind} is not known; these are: {known}; others with pretrained=mapped")
    return FAMILIES[kind]


def knobs(config: Config) -> Knobs:
    """Overrides that make the decoder of a checkpoint; refused with all that is missing."""
    one = family(config)
    if lacking := [*one.missing(config)]:
        raise Refused(f"pretrained: {config['model_type']} with {'; '.join(lacking)} cannot be expressed by our slots")
    return one.knobs(config)


# -- GPT-2

GPT2_TOKENS = 50257
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def _gpt2_knobs(config: Config) -> Knobs:
    tied = config.get("tie_word_embeddings", True)
    own = {"tokenizer": "gpt2"} if config["vocab_size"] == GPT2_TOKENS else {}
    return {
        **own,
        "attention": "mha",
        "position": "learned",
        "norm": "layernorm",
        "norm.eps": config.get("layer_norm_epsilon", 1e-5),
        "mlp": ACTIVATIONS[config.get("activation_function", "gelu_new")],
        "mlp.hidden": config.get("n_inner") or 4 * config["n_embd"],
        "attention.scale": None if config.get("scale_attn_weights", True) else 1.0,
        "readout": "tied" if tied else "untied",
        "bias": True,
        "model.width": config["n_embd"],
        "model.heads": config["n_head"],
        "model.layers": config["n_layer"],
        "model.context": config["n_positions"],
    }


def _gpt2_missing(config: Config) -> Iterator[str]:
    if (activation := config.get("activation_function", "gelu_new")) not in ACTIVATIONS:
        yield f"activation_function={activation}"
    if config.get("scale_attn_by_inverse_layer_idx"):
        yield "scale_attn_by_inverse_layer_idx=true"
    if config.get("add_cross_attention"):
        yield "add_cross_attention=true"


def _gpt2_names(config: Config) -> Mapping:
    qkv = [f"{BLOCK}attention.{one}." for one in "qkv"]
    turned = {"attn.c_proj": "attention.out", "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.out"}
    given: dict[str, Any] = {"wte.weight": "embedding.weight", "wpe.weight": "position.table.weight"}
    for kind in ("weight", "bias"):
        split = {"transpose": True, "split": {"axis": 0, "parts": 3}}
        given[f"h.{{i}}.attn.c_attn.{kind}"] = {"to": [f"{one}{kind}" for one in qkv], **split}
        for theirs, ours in turned.items():
            given[f"h.{{i}}.{theirs}.{kind}"] = {"to": f"{BLOCK}{ours}.{kind}", "transpose": True}
        given[f"h.{{i}}.ln_1.{kind}"], given[f"h.{{i}}.ln_2.{kind}"] = (
            f"{residual}{kind}" for residual in RESIDUALS.values()
        )
        given[f"ln_f.{kind}"] = f"norm.{kind}"
    return parse({**given, **_head(config), "ignore": ["h.{i}.attn.bias", "h.{i}.attn.masked_bias"]})


# -- Llama and its kin


def _llama_knobs(config: Config) -> Knobs:
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    qwen2, qwen3 = (config["model_type"] == kind for kind in ("qwen2", "qwen3"))
    bias = config.get("attention_bias", False)
    window = _window(config, layers)
    return {
        "attention": "gqa" if window is None else "swa",
        "attention.kv_heads": config.get("num_key_value_heads") or heads,
        **({} if window is None else {"attention.window": window}),
        "attention.bias": True if qwen2 else bias,
        "attention.out_bias": False if qwen2 else bias,
        "attention.qk_norm": qwen3,
        "position": "rope",
        **_rope(config),
        "norm": "rmsnorm",
        "norm.eps": config.get("rms_norm_eps", 1e-6),
        "mlp": "swiglu" if config.get("hidden_act", "silu") == "silu" else "geglu",
        "mlp.hidden": config["intermediate_size"],
        "mlp.bias": config.get("mlp_bias", False),
        "readout": "tied" if config.get("tie_word_embeddings", False) else "untied",
        "bias": False,
        "model.width": config["hidden_size"],
        "model.heads": heads,
        "model.layers": layers,
        "model.head": head,
        "model.context": min(config.get("max_position_embeddings", 2048), LONGEST),
    }


def rope(config: Config) -> dict[str, Any]:
    """Rotary settings under their newest names."""
    told = dict(config.get("rope_parameters") or {})
    told |= {key: value for key, value in (config.get("rope_scaling") or {}).items() if value is not None}
    told.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    told["rope_type"] = told.get("rope_type") or told.get("type") or "default"
    return told


SCALINGS = {"default": None, "dynamic": None, "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
"""dynamic stretches only what is longer than its own context, which model.context may not be."""


def _rope(config: Config) -> Knobs:
    told = rope(config)
    found: Knobs = {"position.theta": float(told["rope_theta"]), "position.fraction": _fraction(config)}
    kind = SCALINGS[told["rope_type"]]
    if kind is None:
        return found
    longest = config.get("max_position_embeddings", 2048)
    original = told.get("original_max_position_embeddings") or longest
    found |= {"position.scaling": kind, "position.factor": float(told.get("factor") or longest / original)}
    found["position.original"] = original
    if kind == "llama3":
        found |= {"position.low": float(told["low_freq_factor"]), "position.high": float(told["high_freq_factor"])}
    if kind == "yarn":
        found |= {
            "position.low": float(told.get("beta_slow") or 1),
            "position.high": float(told.get("beta_fast") or 32),
        }
    return found


def _fraction(config: Config) -> float:
    return float(config.get("partial_rotary_factor") or rope(config).get("partial_rotary_factor") or 1.0)


def _window(config: Config, layers: int) -> int | None:
    """Keys that all layers see, None for all keys. `_llama_missing` has refused layers that differ."""
    kinds = {*(config.get("layer_types") or [])}
    if kinds == {"full_attention"} or not config.get("sliding_window") or not config.get("use_sliding_window", True):
        return None
    if config["model_type"].startswith("qwen") and not kinds and config.get("max_window_layers", layers) >= layers:
        return None  # only layers from that one on would have a window
    return config["sliding_window"] if config["model_type"] != "llama" else None


def _llama_missing(config: Config) -> Iterator[str]:
    told, layers = rope(config), config["num_hidden_layers"]
    if config.get("hidden_act", "silu") not in ("silu", "gelu"):
        yield f"hidden_act={config['hidden_act']}"
    if told["rope_type"] not in SCALINGS:
        yield f"rope_type={told['rope_type']}"
    for key in ("attention_factor", "mscale", "mscale_all_dim"):
        if told.get(key) is not None:
            yield f"{key}={told[key]}"
    if told["rope_type"] == "yarn" and told.get("truncate") is False:
        yield "truncate=false"
    if len({*(config.get("layer_types") or [])}) > 1:
        yield "layer_types that differ by layer"
    windowed = config.get("use_sliding_window", False) and not config.get("layer_types")
    if windowed and 0 < config.get("max_window_layers", layers) < layers:
        yield f"max_window_layers={config['max_window_layers']} of {layers}"
    if config["model_type"] == "qwen3" and config.get("rms_norm_eps", 1e-6) != 1e-6:
        yield f"rms_norm_eps={config['rms_norm_eps']} for the norms of heads, which have 1e-6"


def _llama_names(config: Config) -> Mapping:
    given: dict[str, Any] = {"embed_tokens.weight": "embedding.weight", "norm.weight": "norm.weight"}
    here = "layers.{i}."
    for kind in ("weight", "bias"):
        for theirs, ours in {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "out"}.items():
            given[f"{here}self_attn.{theirs}.{kind}"] = f"{BLOCK}attention.{ours}.{kind}"
        for theirs, ours in {"gate_proj": "gate", "up_proj": "up", "down_proj": "out"}.items():
            given[f"{here}mlp.{theirs}.{kind}"] = f"{BLOCK}mlp.{ours}.{kind}"
    given |= {f"{here}self_attn.{one}_norm.weight": f"{BLOCK}attention.{one}_norm.weight" for one in "qk"}
    given[f"{here}input_layernorm.weight"] = f"{RESIDUALS['attention']}weight"
    given[f"{here}post_attention_layernorm.weight"] = f"{RESIDUALS['mlp']}weight"
    return parse({**given, **_head(config), "ignore": ["*rotary_emb.inv_freq"]})


def _head(config: Config) -> dict[str, str]:
    return {"lm_head.weight": "readout.head.weight"}


_LLAMA = Family("model.", "embed_tokens.weight", _llama_knobs, _llama_names, _llama_missing)
FAMILIES = {
    "gpt2": Family("transformer.", "wte.weight", _gpt2_knobs, _gpt2_names, _gpt2_missing),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA),
}
