"""Export a run: a folder that transformers opens, or one safetensors file under our own names.

config.json is derived from the run's config, read back as any checkpoint would be, and compared knob by knob: a run
that would come back as another is refused.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.commands.formats.model_card import render_model_card
from gptlab.commands.unfinished import describe_end
from gptlab.config.recipe import PARTS, Recipe, flatten
from gptlab.config.typecheck import format_value
from gptlab.errors import Refused
from gptlab.model.rope_scaling import DEFAULT_HIGH
from gptlab.runs.record import fill_folder, read_recipe, write_atomically
from gptlab.weights.pretrained import families
from gptlab.weights.pretrained.mapping import invert_mapping

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

Compose = Callable[[list[str]], Recipe]
ACTIVATIONS = {ours: theirs for theirs, ours in reversed(families.ACTIVATIONS.items())}
KNOBS_WITHOUT_EFFECT = ("dropout", "original")
"""Knobs that change no logit of a finished run, or stand for another."""


def export_run(run: Path, to: str, into: Path, compose: Compose) -> Path:
    """Write the folder, which must not be there yet."""
    from safetensors.torch import save_file

    from gptlab.training.restore import load_run

    if into.exists():
        raise Refused(f"--into={into} is there already; name another folder")
    if to == "safetensors":
        decoder, _ = load_run(run)
        with fill_folder(into) as part:
            write_atomically(part / "config.yaml", (run / "config.yaml").read_text(encoding="utf-8"))
            write_atomically(part / "tokenizer.json", (run / "tokenizer.json").read_text(encoding="utf-8"))
            end = describe_end(run)
            facts = {"run": f"{run.name} {end}"} if end else None  # metadata in the header of the file
            save_file(_copy_tensors(dict(decoder.state_dict())), part / "model.safetensors", facts)
        return into
    config, names = convert_run(run, compose)
    with fill_folder(into) as part:
        write_atomically(part / "config.json", json.dumps(config, indent=2))
        save_file(_copy_tensors(names), part / "model.safetensors", {"format": "pt"})
        write_atomically(part / "README.md", render_model_card(run))
    return into


def convert_run(run: Path, compose: Compose) -> "tuple[dict[str, Any], dict[str, Tensor]]":
    """Return config.json and the tensors of a run under the names of transformers; refuse what these cannot say."""
    from gptlab.training.restore import load_run
    from gptlab.weights.change import merge

    recipe = read_recipe(run)
    decoder, _ = load_run(run)
    state = dict(merge(decoder).state_dict())  # transformers knows no changes
    config = derive_config(recipe, decoder)
    # before the folder is made: what comes back as another run is never written
    refuse_different_round_trip(recipe, decoder, config, compose)
    family = families.find_family(config)
    if config["tie_word_embeddings"]:
        # transformers ties it again, and safetensors stores no tensor twice
        state.pop("readout.head.weight")
    tensors = {}
    for name, tensor in _rename_tensors(config, state):
        tensors[name if name == "lm_head.weight" else f"{family.prefix}{name}"] = tensor
    return config, tensors


def _rename_tensors(config: dict[str, Any], state: "dict[str, Tensor]") -> "list[tuple[str, Tensor]]":
    return [*invert_mapping(families.find_family(config).names(config), state, _count_layers(config)).items()]


def _count_layers(config: dict[str, Any]) -> int:
    return config.get("n_layer") or config["num_hidden_layers"]


def _copy_tensors(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return tensors that share no memory, as the format wants."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def derive_config(recipe: Recipe, decoder: "Decoder") -> dict[str, Any]:
    """Return config.json of the nearest family: GPT-2 where positions are learned, else one of Llama's kin."""
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
    return {**common, **_derive_llama_config(config, shape, mlp.hidden)}


def _derive_llama_config(config: dict[str, Any], shape: Any, hidden: int) -> dict[str, Any]:
    """Return the config of a decoder with rotated positions, for the family whose code computes the same."""
    attention, position = config["attention"], config["position"]
    # Qwen 2 has biases on q, k and v and none on the output
    window, bias, out = attention.get("window"), attention.get("bias", False), attention.get("out_bias", False)
    # the family whose code computes this; the round trip below is the judge
    kind = "mistral" if window else "llama"
    if bias and not out:
        kind = "qwen2"
    if attention.get("qk_norm"):
        kind = "qwen3"
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
        # a scaled rotation reaches factor times as far as it was trained
        "max_position_embeddings": round(shape.context * position.get("factor", 1.0)),
        "rope_parameters": rotary,
        "rms_norm_eps": config["norm"].get("eps", 1e-6),
        "hidden_act": config["mlp"].get("activation", "silu"),
        "mlp_bias": config["mlp"].get("bias", False),
        **({} if kind == "qwen2" else {"attention_bias": bias}),
        **({"sliding_window": window} if kind == "mistral" else {}),
    }


def refuse_different_round_trip(recipe: Recipe, decoder: "Decoder", config: dict[str, Any], compose: Compose) -> None:
    """Refuse a run that its own config.json would bring back as another."""
    kind = config["model_type"]
    if missing := [*families.find_family(config).missing(config)]:
        raise Refused(f"{kind} of transformers cannot say {'; '.join(missing)}; export it with --to safetensors")
    knobs = families.derive_knobs(config)
    # as words of a command line, so that the very path of pretrained=hf is taken
    words = [f"{key}={format_value(value).strip(chr(39))}" for key, value in knobs.items() if key != "tokenizer"]
    # choices before knobs: a choice resets the knobs of its slot
    round_trip = compose(sorted(words, key=lambda word: "." in word.partition("=")[0]))
    knobs_of_run, knobs_of_export = _knobs_that_matter(recipe, decoder), _knobs_that_matter(round_trip, decoder)
    differing = [
        key for key in {**knobs_of_run, **knobs_of_export} if knobs_of_run.get(key) != knobs_of_export.get(key)
    ]
    # a part of another class is named by its choice: its knobs would say nothing more
    foreign = {key.partition(".")[0] for key in differing if key.partition(".")[2] == "_target_"}
    named = [f"{slot}={recipe.choices.get(slot)}" for slot in sorted(foreign)]
    for key in sorted(differing):
        if key.partition(".")[0] not in foreign:
            named.append(f"{key}={format_value(knobs_of_run.get(key))}")
    if named:
        differing_knobs = ", ".join(named[:4])
        raise Refused(f"{kind} of transformers cannot say {differing_knobs}; export it with --to safetensors")


def _knobs_that_matter(recipe: Recipe, decoder: "Decoder") -> dict[str, Any]:
    """Return the part of a config that decides the logits, with defaults that follow from sizes written out."""
    whole = {"final_norm": recipe.config["final_norm"], "embedding_norm": False, "embedding_scale": 1.0}
    whole = {key: recipe.config.get(key, usual) for key, usual in whole.items()}
    model = recipe.settings.model
    whole |= {"model.loops": model.loops, "model.head": model.head or model.width // model.heads}
    knobs = flatten({slot: recipe.config[slot] for slot in (*PARTS, "parametrization")} | whole)
    knobs = {key: value for key, value in knobs.items() if key.rpartition(".")[2] not in KNOBS_WITHOUT_EFFECT}
    # null stands for what sizes give; the other side may say the same as a number
    defaults: dict[str, Any] = {"mlp.hidden": decoder.layers[0].mlp.hidden, "attention.kv_heads": decoder.shape.heads}
    defaults["position.high"] = DEFAULT_HIGH.get(recipe.config["position"].get("scaling"), 4.0)
    return {key: defaults.get(key) if value is None else value for key, value in knobs.items()}
