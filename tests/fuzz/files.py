"""Files that people could give: texts, tokenizers, shards, YAMLs and checkpoints, whole or damaged."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from damage import damage_bytes, damage_json
from safetensors.torch import save, save_file
from tiny_runs import ROOT
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXT = (ROOT / "LICENSE").read_text()
LETTERS = "ab \n\t\réßœ日本語😀\u0301\u200d\u2028\x00\x1b[/]{}$\\'\"\ufeff"


def write_text(random: Random, folder: Path) -> Path:
    """Write a text, or something that is none, and return its path; sometimes that of a folder or a link."""
    text = random.choice((TEXT, TEXT * 3, "".join(random.choices(LETTERS, k=random.randint(0, 4000)))))
    encoding = random.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"))
    data = text.encode(encoding, "replace")
    data = damage_bytes(random, data) if random.random() < 0.3 else data
    name = random.choice(("a.txt", "b c.txt", "d=e,[f].txt", "ü.txt", "g.md", ".hidden", "h.gz", "'i'.txt"))
    kind = random.choice(("file", "file", "file", "folder", "link", "loop", "dangling"))
    place = folder / "texts" if kind != "file" else folder
    place.mkdir(exist_ok=True)
    (place / name).write_bytes(data)
    if kind == "file":
        return place / name
    if kind == "link":
        (place / "linked.txt").symlink_to(place / name)
    elif kind == "loop":
        (place / "loop").symlink_to(place)
    elif kind == "dangling":
        (place / "gone.txt").symlink_to(folder / "nothing")
    return place


def make_tokenizer(random: Random) -> dict[str, Any]:
    """Return the content of a tokenizer.json, of a kind that keeps texts or not."""
    model = random.choice((models.BPE(), models.BPE(byte_fallback=True), models.BPE(unk_token="?")))
    made = Tokenizer(model)
    made.pre_tokenizer, made.decoder = random.choice(
        (
            (pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()),
            (pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()),
            (pre_tokenizers.Metaspace(), decoders.Metaspace()),
            (pre_tokenizers.Whitespace(), decoders.BPEDecoder()),
        )
    )
    if random.random() < 0.3:
        made.normalizer = random.choice((normalizers.Lowercase(), normalizers.NFKC(), normalizers.Strip()))
    alphabet = pre_tokenizers.ByteLevel.alphabet() if random.random() < 0.7 else []
    special = random.choice(([], ["<|endoftext|>"], ["the", " "]))
    made.train_from_iterator(
        TEXT.splitlines(True),
        trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    if random.random() < 0.2:
        made.enable_truncation(8)
    if random.random() < 0.2:
        made.enable_padding(length=64)
    return json.loads(made.to_str())


def write_tokenizer(random: Random, folder: Path) -> Path:
    """Write a tokenizer.json, damaged or not."""
    content = make_tokenizer(random)
    data = damage_json(random, content) if random.random() < 0.6 else json.dumps(content).encode()
    path = folder / random.choice(("tokenizer.json", "t.json", "tokenizer.model", "t.tiktoken"))
    path.write_bytes(data)
    return path


SHARD_TYPES = ("<u2", "<u2", "<u4", "<i4", "<i8", "<u8", "<f4", ">u2", "u1")
HEADERS = (None, None, (20240520, 1), (20240801, 7), (20240520, 9), (1, 1))
"""llm.c's two, a version that is unknown, and a foreign one."""


def write_shards(random: Random, folder: Path) -> Path:
    """Write token files of any width, byte order, header and name."""
    kind, header = random.choice(SHARD_TYPES), random.choice(HEADERS)
    vocab = random.choice((2, 60, 256, 50257, 60000))
    path = folder / "shards"
    path.mkdir()
    for name in random.choice((("train", "val"), ("train", "val"), ("a_train_0", "a_val_0"), ("train",), ("x", "y"))):
        count = random.choice((0, 1, 17, 400, 4000))
        tokens = np.random.default_rng(random.randrange(2**32)).integers(0, vocab, count).astype(kind)
        data = tokens.tobytes()
        if header:
            fields = np.zeros(256, "<i4")
            fields[:3] = (*header, random.choice((count, count + 1, -1, 0)))
            data = fields.tobytes() + data
        data = damage_bytes(random, data) if random.random() < 0.3 else data
        (path / f"{name}{random.choice(('.bin', '.bin', '.BIN', '.npy', '.txt'))}").write_bytes(data)
    return path


YAML_LINES = (
    "# @package _global_",
    "defaults:\n  - override /attention: gqa",
    "defaults:\n  - override /attention: nothing",
    "defaults: 3",
    "defaults:\n  - _self_\n  - /model: nano",
    "model:\n  width: 32",
    "model: nano",
    "model:\n  widht: 32",
    "attention:\n  kv_heads: 1",
    "steps: 3",
    "steps: 3\nsteps: 4",
    "steps: [3]",
    "seeds: 2",
    "\tsteps: 3",
    "steps: 3: 4",
    "steps: ${nothing}",
    "steps: ${oc.env:HOME}",
    "steps: ???",
    "optimizer:\n  lr: 1e-3",
    "optimizer:\n  lr: .nan",
    "new: 1",
    "- 1\n- 2",
    "&a [*a]",
    "*nothing",
    "!!python/object:os.system x",
    "? {a: 1}",
    "1: 2",
    "null: 2",
    "date: 2020-01-01",
    "hydra:\n  sweeper:\n    params:\n      attention: mha,gqa",
    "hydra:\n  run:\n    dir: x",
    "\ufeffsteps: 2",
)


def write_yaml(random: Random, folder: Path) -> Path:
    """Write conf/experiment/own.yaml from odd lines, and return conf."""
    lines = random.sample(YAML_LINES, random.randint(1, 3))
    lines = ["# @package _global_", *lines] if random.random() < 0.6 else lines
    data = "\n".join(lines).encode()
    path = folder / "own_conf" / "experiment"
    path.mkdir(parents=True)
    (path / "own.yaml").write_bytes(damage_bytes(random, data) if random.random() < 0.2 else data)
    return path.parent


WIDTH, HIDDEN, VOCAB = 16, 24, 256
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}


def make_llama_weights(random: Random) -> dict[str, torch.Tensor]:
    """Return the weights of a Llama of one layer."""
    shapes = {
        "model.embed_tokens": (VOCAB, WIDTH),
        "lm_head": (VOCAB, WIDTH),
        "model.norm": (WIDTH,),
        "model.layers.0.input_layernorm": (WIDTH,),
        "model.layers.0.post_attention_layernorm": (WIDTH,),
        "model.layers.0.self_attn.q_proj": (WIDTH, WIDTH),
        "model.layers.0.self_attn.k_proj": (WIDTH // 2, WIDTH),
        "model.layers.0.self_attn.v_proj": (WIDTH // 2, WIDTH),
        "model.layers.0.self_attn.o_proj": (WIDTH, WIDTH),
        "model.layers.0.mlp.gate_proj": (HIDDEN, WIDTH),
        "model.layers.0.mlp.up_proj": (HIDDEN, WIDTH),
        "model.layers.0.mlp.down_proj": (WIDTH, HIDDEN),
    }
    generator = torch.Generator().manual_seed(random.randrange(2**32))
    return {f"{name}.weight": 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def spoil_weights(random: Random, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights with a prefix, a tensor of another value, shape or type, one that lacks, or one too many."""
    name = random.choice([*weights])
    tensor = weights[name]
    kind = random.choice(("nan", "inf", "shape", "type", "lack", "more", "prefix", "prefix", "empty", "transposed"))
    if kind == "prefix":
        prefix = random.choice(("_orig_mod.", "module.", "base_model.model.", "foo.", "transformer.", "."))
        return {f"{prefix}{key}": value for key, value in weights.items()}
    if kind == "lack":
        return {key: value for key, value in weights.items() if key != name}
    if kind == "type":
        types = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.int64, torch.complex64)
        return {**weights, name: tensor.to(random.choice(types))}
    spoilt = {
        "nan": torch.where(torch.arange(tensor.numel()).view(tensor.shape) == 3, torch.nan, tensor),
        "inf": tensor / 0,
        "shape": tensor[:-1].contiguous(),
        "empty": tensor[:0].contiguous(),
        "transposed": tensor.t().contiguous(),
    }
    return {**weights, (f"{name}.more" if kind == "more" else name): spoilt.get(kind, tensor.clone())}


def write_checkpoint(random: Random, folder: Path) -> Path:
    """Write a checkpoint in Hugging Face's layout, with one thing or two amiss, and return its folder."""
    path = folder / random.choice(("ckpt", "c k=p,t"))
    path.mkdir()
    config = json.dumps(LLAMA).encode() if random.random() < 0.5 else damage_json(random, LLAMA)
    (path / "config.json").write_bytes(config)
    weights = make_llama_weights(random)
    weights = spoil_weights(random, weights) if random.random() < 0.6 else weights
    random.choice((write_safetensors, write_safetensors, write_torch_file, write_safetensors_in_shards))(
        random, path, weights
    )
    return path


def write_safetensors(random: Random, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write one file, whole or torn."""
    data = save(weights)
    (folder / "model.safetensors").write_bytes(damage_bytes(random, data) if random.random() < 0.25 else data)


def write_torch_file(random: Random, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write pytorch_model.bin: a state dict, one inside something else, or anything."""
    contents: list[Any] = [
        weights,
        weights,
        {"state_dict": weights},
        {"model": weights, "step": 3},
        [*weights.values()],
        None,
        {"a": None},
        {**weights, "step": 3},
        {},
    ]
    path = folder / "pytorch_model.bin"
    torch.save(random.choice(contents), path)
    if random.random() < 0.25:
        path.write_bytes(damage_bytes(random, path.read_bytes()))


def write_safetensors_in_shards(random: Random, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write two files and their index, damaged or not."""
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    halves = [dict([*weights.items()][number::2]) for number in (0, 1)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, folder / name)
    index = {
        "metadata": {"total_size": 1},
        "weight_map": {key: name for name, half in zip(names, halves, strict=True) for key in half},
    }
    data = damage_json(random, index) if random.random() < 0.5 else json.dumps(index).encode()
    (folder / "model.safetensors.index.json").write_bytes(data)
