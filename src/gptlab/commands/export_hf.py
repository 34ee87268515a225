"""A run in another layout: a folder that transformers opens, or one safetensors file under our own names.

What a run is, its config says; what transformers will compute, config.json says. The one is derived from the other,
read back as any checkpoint would be, and compared knob by knob: a run that would come back as another is refused.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import PARTS, Recipe, flat
from gptlab.config.typecheck import shown
from gptlab.errors import Refused
from gptlab.model.rope_scaling import HIGH
from gptlab.runs.record import read_recipe, write_atomically
from gptlab.weights.pretrained import families
from gptlab.weights.pretrained.mapping import back

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

Compose = Callable[[list[str]], Recipe]
ACTIVATIONS = {ours: theirs for theirs, ours in reversed(families.ACTIVATIONS.items())}
SILENT = ("dropout", "original")
"""Knobs that change no logit of a finished run, or stand for another."""


def export(run: Path, to: str, into: Path, compose: Compose) -> Path:
    """Writes the folder, which must not be there yet."""
    from safetensors.torch import save_file

    from gptlab.restore import load
    from gptlab.weights.change import merge

    if into.exists():
        raise Refused(f"--into={into} is there already; name another folder")
    recipe = read_recipe(run)
    decoder, _ = load(run)
    if to == "safetensors":
        into.mkdir(parents=True)
        write_atomically(into / "config.yaml", (run / "config.yaml").read_text(encoding="utf-8"))
        write_atomically(into / "tokenizer.json", (run / "tokenizer.json").read_text(encoding="utf-8"))
        save_file(_apart(dict(decoder.state_dict())), into / "model.safetensors")
        return into
    state = dict(merge(decoder).state_dict())  # transformers knows no changes
    config = derived(recipe, decoder)
    refuse_changed(recipe, decoder, config, compose)
    family = families.family(config)
    if config["tie_word_embeddings"]:
        state.pop("readout.head.weight")
    names = {
        f"{family.prefix}{name}" if name != "lm_head.weight" else name: one for name, one in _renamed(config, state)
    }
    into.mkdir(parents=True)
    write_atomically(into / "config.json", json.dumps(config, indent=2))
    save_file(_apart(names), into / "model.safetensors", {"format": "pt"})
    return into


def _renamed(config: dict[str, Any], state: "dict[str, Tensor]") -> "list[tuple[str, Tensor]]":
    return [*back(families.family(config).names(config), state, _layers(config)).items()]


def _layers(config: dict[str, Any]) -> int:
    return config.get("n_layer") or config["num_hidden_layers"]


def _apart(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Tensors that share no memory, as the format wants."""
    return {name: one.detach().clone().contiguous() for name, one in state.items()}


def derived(recipe: Recipe, decoder: "Decoder") -> dict[str, Any]:
    """config.json of the family that is nearest: GPT-2 where positions are learned, else one of Llama's kin."""
    config, tied = recipe.config, decoder.readout.head.weight is decoder.embedding.weight  # type: ignore[union-attr]
    common = {"vocab_size": decoder.shape.vocab, "tie_word_embeddings": bool(tied), "torch_dtype": "float32"}
    shape, mlp = decoder.shape, decoder.layers[0].mlp
    if "embed" in decoder.position.provides:
        return {
            **common,
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_embd": shape.width,
            "n_head": shape.heads,
            "n_layer": shape.layers,
            "n_positions": shape.context,
            "n_inner": mlp.hidden,
            "activation_function": ACTIVATIONS.get(config["mlp"].get("activation"), "gelu_new"),
            "layer_norm_epsilon": config["norm"].get("eps", 1e-5),
            "scale_attn_weights": config["attention"].get("scale") is None,
        }
    return {**common, **_llama(config, shape, mlp.hidden)}


def _llama(config: dict[str, Any], shape: Any, hidden: int) -> dict[str, Any]:
    attention, position = config["attention"], config["position"]
    window, bias, out = attention.get("window"), attention.get("bias", False), attention.get("out_bias", False)
    kind = "qwen3" if attention.get("qk_norm") else "qwen2" if bias and not out else "mistral" if window else "llama"
    rotary = {"rope_type": position.get("scaling") or "default", "rope_theta": position.get("theta", 10000.0)}
    if position.get("scaling"):
        rotary |= {
            "factor": position["factor"],
            "original_max_position_embeddings": position["original"] or shape.context,
        }
        low, high = position["low"], position["high"]
        if position["scaling"] == "llama3":
            rotary |= {"low_freq_factor": low, "high_freq_factor": high or 4.0}
        if position["scaling"] == "yarn":
            rotary |= {"beta_slow": low, "beta_fast": high or 32.0}
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    return {
        "model_type": kind,
        "architectures": [f"{names[kind]}ForCausalLM"],
        "hidden_size": shape.width,
        "intermediate_size": hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": attention.get("kv_heads") or shape.heads,
        "head_dim": shape.head,
        "max_position_embeddings": round(shape.context * position.get("factor", 1.0)),
        "rope_parameters": rotary,
        "rms_norm_eps": config["norm"].get("eps", 1e-6),
        "hidden_act": config["mlp"].get("activation", "silu"),
        "mlp_bias": config["mlp"].get("bias", False),
        **({} if kind == "qwen2" else {"attention_bias": bias}),
        **({"sliding_window": window} if kind == "mistral" else {}),
    }


def refuse_changed(recipe: Recipe, decoder: "Decoder", config: dict[str, Any], compose: Compose) -> None:
    """Refuses a run that its own config.json would bring back as another."""
    knobs = families.knobs(config)
    words = [f"{key}={shown(value).strip(chr(39))}" for key, value in knobs.items() if key != "tokenizer"]
    again = compose([word for word in words if "." not in word.partition("=")[0]] + [w for w in words if "." in w])
    here, there = (_settled(one, decoder) for one in (recipe, again))
    wrong = [f"{key}={shown(here.get(key))}" for key in {**here, **there} if here.get(key) != there.get(key)]
    if wrong:
        told = ", ".join(sorted(wrong)[:4])
        raise Refused(f"{config['model_type']} of transformers cannot say {told}; export it with --to safetensors")


def _settled(recipe: Recipe, decoder: "Decoder") -> dict[str, Any]:
    """What decides the logits, with the defaults that follow from sizes written out."""
    found = flat({slot: recipe.config[slot] for slot in PARTS} | {"final_norm": recipe.config["final_norm"]})
    found = {key: value for key, value in found.items() if key.rpartition(".")[2] not in SILENT}
    usual: dict[str, Any] = {"mlp.hidden": decoder.layers[0].mlp.hidden, "attention.kv_heads": decoder.shape.heads}
    usual["position.high"] = HIGH.get(recipe.config["position"].get("scaling"), 4.0)
    return {key: usual.get(key) if value is None else value for key, value in found.items()}
