"""Families of Hugging Face checkpoints: their config.json to overrides, their parameter names to ours.

A config describes what was computed, not only how large it was: an activation, an epsilon or a scaling that our slots
cannot express is refused by name. Both spellings of rotary settings are read: rope_theta and rope_scaling (files of the
hub), and rope_parameters (transformers 5).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gptlab.errors import Refused
from gptlab.weights.pretrained.mapping import Mapping, parse_mapping

Config = dict[str, Any]
Knobs = dict[str, Any]
BLOCK = "blocks.{i}."
RESIDUALS = {"attention": f"{BLOCK}attention_residual.norm.", "mlp": f"{BLOCK}mlp_residual.norm."}
MAX_CONTEXT = 1024
"""Default of the training context in tokens where the checkpoint's positions allow more; model.context=<more> wins."""


@dataclass(frozen=True)
class Family:
    """A family of checkpoints.

    prefix     prefix of the parameter names in a whole model
    embedding  name of the token embedding, without the prefix
    knobs      maps a config to overrides of train.py
    names      maps a config to the mapping of its parameters, named without the prefix, to ours
    missing    yields what the config asks for and our slots cannot express
    """

    prefix: str
    embedding: str
    knobs: Callable[[Config], Knobs]
    names: Callable[[Config], Mapping]
    missing: Callable[[Config], Iterator[str]]


def find_family(config: Config) -> Family:
    """Return the family of a config's model_type; raise Refused for an unknown one."""
    kind = config.get("model_type", "none")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise Refused(f"pretrained: model_type={kind} is not known; these are: {known}; others with pretrained=mapped")
    return FAMILIES[kind]


def derive_knobs(config: Config) -> Knobs:
    """Return the overrides that build a checkpoint's decoder; refuse it with all that our slots cannot express."""
    family = find_family(config)
    if missing := [*family.missing(config)]:
        raise Refused(f"pretrained: {config['model_type']} with {'; '.join(missing)} cannot be expressed by our slots")
    return family.knobs(config)


# -- GPT-2

GPT2_TOKENS = 50257
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def _gpt2_knobs(config: Config) -> Knobs:
    tied = config.get("tie_word_embeddings", True)
    # a fine-tune with another vocabulary brings a tokenizer of its own
    tokenizer = {"tokenizer": "gpt2"} if config["vocab_size"] == GPT2_TOKENS else {}
    return {
        **tokenizer,
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
    # names with {i} stand for every layer
    qkv = [f"{BLOCK}attention.{letter}." for letter in "qkv"]
    transposed = {"attn.c_proj": "attention.out", "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.out"}
    entries: dict[str, Any] = {"wte.weight": "embedding.weight", "wpe.weight": "position.table.weight"}
    for kind in ("weight", "bias"):
        # Conv1D stores (in, out), and q, k and v in one matrix
        split = {"transpose": True, "split": {"axis": 0, "parts": 3}}
        entries[f"h.{{i}}.attn.c_attn.{kind}"] = {"to": [f"{target}{kind}" for target in qkv], **split}
        for theirs, ours in transposed.items():
            entries[f"h.{{i}}.{theirs}.{kind}"] = {"to": f"{BLOCK}{ours}.{kind}", "transpose": True}
        entries[f"h.{{i}}.ln_1.{kind}"] = f"{RESIDUALS['attention']}{kind}"
        entries[f"h.{{i}}.ln_2.{kind}"] = f"{RESIDUALS['mlp']}{kind}"
        entries[f"ln_f.{kind}"] = f"norm.{kind}"
    return parse_mapping({**entries, **HEAD_ENTRY, "ignore": ["h.{i}.attn.bias", "h.{i}.attn.masked_bias"]})


# -- Llama and its kin


def _llama_knobs(config: Config) -> Knobs:
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    # Qwen 3's heads are wider than width / heads
    head = config.get("head_dim") or config["hidden_size"] // heads
    qwen2, qwen3 = config["model_type"] == "qwen2", config["model_type"] == "qwen3"
    bias = config.get("attention_bias", False)
    window = _sliding_window(config, layers)
    return {
        "attention": "gqa" if window is None else "swa",
        "attention.kv_heads": config.get("num_key_value_heads") or heads,
        **({} if window is None else {"attention.window": window}),
        # Qwen 2 has biases on q, k and v whatever its config says, and none on out
        "attention.bias": True if qwen2 else bias,
        "attention.out_bias": False if qwen2 else bias,
        "attention.qk_norm": qwen3,
        "position": "rope",
        **_rope_knobs(config),
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
        # checkpoints allow 100,000 tokens and more, for which no laptop has the memory; a knob raises it
        "model.context": min(config.get("max_position_embeddings", 2048), MAX_CONTEXT),
    }


def read_rope_settings(config: Config) -> dict[str, Any]:
    """Return the rotary settings of a config under their newest names."""
    settings = dict(config.get("rope_parameters") or {})
    # older configs have a dictionary of scaling, beside a theta of its own
    settings |= {key: value for key, value in (config.get("rope_scaling") or {}).items() if value is not None}
    settings.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    settings["rope_type"] = settings.get("rope_type") or settings.get("type") or "default"
    return settings


SCALINGS = {"default": None, "dynamic": None, "linear": "linear", "llama3": "llama3", "yarn": "yarn"}
"""Our scaling for each rope_type.

Dynamic scales only beyond the checkpoint's context, which model.context may not exceed.
"""


def _rope_knobs(config: Config) -> Knobs:
    settings = read_rope_settings(config)
    knobs: Knobs = {"position.theta": float(settings["rope_theta"]), "position.fraction": 1.0}
    # `_llama_missing` has refused the others
    kind = SCALINGS[settings["rope_type"]]
    if kind is None:
        return knobs
    longest = config.get("max_position_embeddings", 2048)
    original = settings.get("original_max_position_embeddings") or longest
    knobs |= {"position.scaling": kind, "position.factor": float(settings.get("factor") or longest / original)}
    knobs["position.original"] = original
    if kind == "llama3":
        knobs |= {
            "position.low": float(settings["low_freq_factor"]),
            "position.high": float(settings["high_freq_factor"]),
        }
    if kind == "yarn":
        knobs |= {
            "position.low": float(settings.get("beta_slow") or 1),
            "position.high": float(settings.get("beta_fast") or 32),
        }
    return knobs


QWEN_FIRST_WINDOWED_LAYER = 28
"""max_window_layers of a config of Qwen that does not say it."""


def _sliding_window(config: Config, layers: int) -> int | None:
    """Return the window that all layers have, in tokens; None for full attention.

    `_llama_missing` has refused layers that differ. Defaults are those of transformers, whose code for Llama knows no
    window and for Mistral no kinds of layers, whatever a config holds.
    """
    window, kind = config.get("sliding_window"), config["model_type"]
    if kind in ("llama", "mistral"):
        return window if kind == "mistral" else None
    kinds = {*(config.get("layer_types") or [])}
    first = 0 if kinds else config.get("max_window_layers", QWEN_FIRST_WINDOWED_LAYER)
    is_windowed = config.get("use_sliding_window", False) and kinds != {"full_attention"} and first < layers
    return window if is_windowed else None


def _llama_missing(config: Config) -> Iterator[str]:
    rope, layers = read_rope_settings(config), config["num_hidden_layers"]
    if config.get("hidden_act", "silu") not in ("silu", "gelu"):
        yield f"hidden_act={config['hidden_act']}"
    if rope["rope_type"] not in SCALINGS:
        yield f"rope_type={rope['rope_type']}"
    for key in ("attention_factor", "mscale", "mscale_all_dim"):
        if rope.get(key) is not None:
            yield f"{key}={rope[key]}"
    if rope["rope_type"] == "yarn" and rope.get("truncate") is False:
        yield "truncate=false"
    # one knob for all layers: alternating windows want a pattern, which no override of one key is
    if len({*(config.get("layer_types") or [])}) > 1:
        yield "layer_types that differ by layer"
    windowed = config.get("use_sliding_window", False) and not config.get("layer_types")
    if windowed and 0 < (first := config.get("max_window_layers", QWEN_FIRST_WINDOWED_LAYER)) < layers:
        yield f"max_window_layers={first} of {layers}"
    # their code in transformers 5 turns whole heads, and others turn a part
    if (fraction := config.get("partial_rotary_factor") or rope.get("partial_rotary_factor") or 1.0) != 1:
        yield f"partial_rotary_factor={fraction}"
    # their code has no such biases, whatever the config holds
    if config["model_type"] != "llama" and config.get("mlp_bias"):
        yield "mlp_bias=true"
    if config["model_type"] == "mistral" and config.get("attention_bias"):
        yield "attention_bias=true"
    # transformers hands eps to the norms of heads too; ours have one of their own
    if config["model_type"] == "qwen3" and config.get("rms_norm_eps", 1e-6) != 1e-6:
        yield f"rms_norm_eps={config['rms_norm_eps']} for the norms of heads, which have 1e-6"


def _llama_names(config: Config) -> Mapping:
    entries: dict[str, Any] = {"embed_tokens.weight": "embedding.weight", "norm.weight": "norm.weight"}
    layer = "layers.{i}."
    for kind in ("weight", "bias"):
        for theirs, ours in {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "out"}.items():
            entries[f"{layer}self_attn.{theirs}.{kind}"] = f"{BLOCK}attention.{ours}.{kind}"
        for theirs, ours in {"gate_proj": "gate", "up_proj": "up", "down_proj": "out"}.items():
            entries[f"{layer}mlp.{theirs}.{kind}"] = f"{BLOCK}mlp.{ours}.{kind}"
    # norms of heads, which Qwen 3 alone has
    for letter in "qk":
        entries[f"{layer}self_attn.{letter}_norm.weight"] = f"{BLOCK}attention.{letter}_norm.weight"
    entries[f"{layer}input_layernorm.weight"] = f"{RESIDUALS['attention']}weight"
    entries[f"{layer}post_attention_layernorm.weight"] = f"{RESIDUALS['mlp']}weight"
    return parse_mapping({**entries, **HEAD_ENTRY, "ignore": ["*rotary_emb.inv_freq"]})


HEAD_ENTRY = {"lm_head.weight": "readout.head.weight"}


_GPT2 = Family(
    prefix="transformer.", embedding="wte.weight", knobs=_gpt2_knobs, names=_gpt2_names, missing=_gpt2_missing
)
_LLAMA = Family(
    prefix="model.", embedding="embed_tokens.weight", knobs=_llama_knobs, names=_llama_names, missing=_llama_missing
)
FAMILIES = {"gpt2": _GPT2, **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _LLAMA)}
