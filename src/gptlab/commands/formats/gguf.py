"""Export a run as one GGUF file, which llama.cpp reads: GPT-2-shaped runs, and those of Llama, Qwen 2 and Qwen 3.

The run is first turned into a checkpoint of transformers (huggingface.py), with its refusals; then names and layouts
change:

GPT-2   weights of Conv1D are stored transposed
Llama   rows of q and k are reordered: llama.cpp rotates neighbours (2i, 2i+1), transformers the halves (i, i + d/2)

Format: github.com/ggml-org/ggml, docs/gguf.md; written by its library gguf. Tokens are numbers: a vocabulary of ours is
none that llama.cpp has, so the file says that it holds none.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.commands.formats.huggingface import Compose, convert_run
from gptlab.commands.unfinished import describe_end
from gptlab.errors import Refused

SHAPES = ("gpt2", "llama", "qwen2", "qwen3")
"""Families that are an architecture of the same name there."""
ACTIVATIONS = {"gpt2": ("gelu_new", "gelu_pytorch_tanh")}
"""Activations that llama.cpp has in an architecture; silu in all others."""
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def export_gguf(run: Path, into: Path, compose: Compose) -> Path:
    """Write the file, which must not be there yet."""
    try:
        import gguf
    except ModuleNotFoundError as error:
        raise Refused("--to gguf needs the library gguf, which is not here; run: pip install 'gptlab[gguf]'") from error
    if into.exists():
        raise Refused(f"--into={into} is there already; name another file")
    # all refusals of transformers' layout first, then those of GGUF; nothing is written before
    config, tensors = convert_run(run, compose)
    refuse_unknown_shape(config)
    kind = config["model_type"]
    layers = config.get("n_layer") or config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, kind.upper()), layers)
    into.parent.mkdir(parents=True, exist_ok=True)
    part = into.with_name(f".{into.name}.{os.getpid()}.part")  # beside it: whole or not at all
    writer = gguf.GGUFWriter(part, kind)
    write_settings(writer, config, run.name)
    if end := describe_end(run):
        writer.add_description(f"the run {end}")
    for name, tensor in tensors.items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise Refused(f"GGUF has no name for {name} in {kind}; export it with --to safetensors")
        writer.add_tensor(theirs, arrange_tensor(name, tensor.detach().float().numpy(), config))
    try:
        # in this order: the header counts the settings and tensors that were added
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(into)
    finally:
        with suppress(OSError):  # a full disk was told of already
            writer.close()
        part.unlink(missing_ok=True)
    return into


def refuse_unknown_shape(config: dict[str, Any]) -> None:
    """Refuse what the file could not say, by the knob that prevents it."""
    if config["model_type"] not in SHAPES:
        window = config.get("sliding_window")
        raise Refused(f"GGUF cannot say attention.window={window}; export it with --to hf, or train attention=gqa")
    kind = config.get("rope_parameters", {}).get("rope_type", "default")
    if kind != "default":
        raise Refused(f"--to gguf does not write position.scaling={kind}; export it with --to hf")
    # what llama.cpp computes in an architecture is fixed in its code; the file has no key for it
    family = config["model_type"]
    activation = config["activation_function"] if family == "gpt2" else config["hidden_act"]
    if activation not in ACTIVATIONS.get(family, ("silu",)):
        known = "mlp=gelu_tanh" if family == "gpt2" else "mlp=swiglu"
        raise Refused(f"GGUF cannot say an mlp with {activation}: its {family} is {known}; export it with --to hf")
    if not config.get("scale_attn_weights", True):
        raise Refused("GGUF cannot say attention.scale=1: its gpt2 has 1/sqrt(head); export it with --to hf")
    if family == "qwen3" and config.get("attention_bias"):
        raise Refused("GGUF cannot say attention.bias=true beside attention.qk_norm=true; export it with --to hf")


def write_settings(writer: Any, config: dict[str, Any], name: str) -> None:
    """Write sizes and constants."""
    is_gpt2 = config["model_type"] == "gpt2"
    width, heads = (config["n_embd"], config["n_head"]) if is_gpt2 else (config["hidden_size"], _count_heads(config))
    writer.add_name(name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["n_positions"] if is_gpt2 else config["max_position_embeddings"])
    writer.add_embedding_length(width)
    writer.add_block_count(config["n_layer"] if is_gpt2 else config["num_hidden_layers"])
    writer.add_feed_forward_length(config["n_inner"] if is_gpt2 else config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_file_type(0)  # float32
    writer.add_tokenizer_model("no_vocab")
    if is_gpt2:
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])


def arrange_tensor(name: str, tensor: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Return a tensor of transformers as llama.cpp lays it out."""
    if config["model_type"] == "gpt2" and name.endswith(TRANSPOSED):
        return np.ascontiguousarray(tensor.T)
    if config["model_type"] == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = _count_heads(config) if "q_proj" in name else config["num_key_value_heads"]
        halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])  # (head, half, pair, width)
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))
    return np.ascontiguousarray(tensor)


def _count_heads(config: dict[str, Any]) -> int:
    return int(config["num_attention_heads"])
