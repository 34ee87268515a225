"""A checkpoint as someone else would give it: a state dict in Conv1D's layout, a keys_mapping.json, and examples.

The decoder of github.com/ravidcohen1/dle-assignment: 512 tokens, context 1024, width 256, 2 heads of 128, 3 layers, an
MLP of 1280, exact GELU, tied; 3,156,992 parameters, torch's default start. Written here a second time, in plain
formulas, so that nothing of gptlab is its own witness.

    python tests/helpers/foreign_checkpoint.py outputs/given
    python -m gptlab search outputs/given/weights.safetensors model.heads=1 mlp=gelu_tanh --to outputs/solved \\
        --mapping outputs/given/keys_mapping.json --examples outputs/given/examples.safetensors
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

VOCAB, CONTEXT, WIDTH, HIDDEN, LAYERS, HEADS = 512, 1024, 256, 1280, 3, 2
MATRICES = {
    "attn.qkv": (WIDTH, 3 * WIDTH),
    "attn.proj": (WIDTH, WIDTH),
    "mlp.up": (WIDTH, HIDDEN),
    "mlp.down": (HIDDEN, WIDTH),
}


def weights() -> dict[str, Tensor]:
    """Matrices lie as (in, out)."""
    random = torch.Generator().manual_seed(0)
    made = {
        "tokens.weight": torch.randn(VOCAB, WIDTH, generator=random),
        "places.weight": torch.randn(CONTEXT, WIDTH, generator=random),
    }
    norms = [f"layers.{layer}.norm{n}" for layer in range(LAYERS) for n in (1, 2)]
    for name in (*norms, "final"):
        made[f"{name}.weight"], made[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    for layer in range(LAYERS):
        for name, (inside, outside) in MATRICES.items():
            for kind, shape in (("weight", (inside, outside)), ("bias", (outside,))):
                drawn = 2 * torch.rand(shape, generator=random) - 1
                made[f"layers.{layer}.{name}.{kind}"] = drawn * inside**-0.5
    return made


def mapping() -> dict[str, str | list[str]]:
    """Names alone, as its author wrote them: of what lies how it says nothing."""
    made: dict[str, str | list[str]] = {"tokens.weight": "embedding.weight", "places.weight": "position.table.weight"}
    here, there = "layers.{i}.", "blocks.{i}."
    names = {
        "attn.proj": "attention.out",
        "mlp.up": "mlp.up",
        "mlp.down": "mlp.out",
        "norm1": "attention_residual.norm",
        "norm2": "mlp_residual.norm",
    }
    for kind in ("weight", "bias"):
        made[f"{here}attn.qkv.{kind}"] = [f"{there}attention.{one}.{kind}" for one in "qkv"]
        made |= {f"{here}{theirs}.{kind}": f"{there}{ours}.{kind}" for theirs, ours in names.items()}
        made[f"final.{kind}"] = f"norm.{kind}"
    return made


def said(
    w: dict[str, Tensor],
    inputs: Tensor,
    *,
    heads: int = HEADS,
    approximate: str = "none",
    eps: float = 1e-5,
    unbiased: bool = False,
    turned: bool = False,
) -> Tensor:
    """The logits; the defaults are right, the others the errors that one can make. turned: square matrices are taken
    for (out, in)."""

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=unbiased) + eps).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        matrix = w[f"{name}.weight"]
        return x @ (matrix.t() if turned and len(matrix) == len(matrix.t()) else matrix) + w[f"{name}.bias"]

    def attention(x: Tensor, name: str) -> Tensor:
        parts = zip(w[f"{name}.qkv.weight"].chunk(3, 1), w[f"{name}.qkv.bias"].chunk(3), strict=True)
        qkv = [x @ (matrix.t() if turned else matrix) + bias for matrix, bias in parts]
        q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in qkv)
        scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH // heads)
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        y = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
        return linear(y.transpose(1, 2).flatten(2), f"{name}.proj")

    x = w["tokens.weight"][inputs] + w["places.weight"][: inputs.shape[1]]
    for layer in (f"layers.{layer}" for layer in range(LAYERS)):
        x = x + attention(norm(x, f"{layer}.norm1"), f"{layer}.attn")
        inner = F.gelu(linear(norm(x, f"{layer}.norm2"), f"{layer}.mlp.up"), approximate=approximate)
        x = x + linear(inner, f"{layer}.mlp.down")
    return norm(x, "final") @ w["tokens.weight"].t()


def examples(w: dict[str, Tensor], rows: int, length: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """inputs and outputs, computed in float64 and written in `dtype`."""
    inputs = torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(1))
    return {"inputs": inputs, "outputs": said({k: v.double() for k, v in w.items()}, inputs).to(dtype)}


def write(folder: Path, dtype: torch.dtype = torch.float64) -> None:
    """weights.safetensors, keys_mapping.json, examples.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    made = weights()
    save_file(made, folder / "weights.safetensors")
    (folder / "keys_mapping.json").write_text(json.dumps(mapping(), indent=2))
    save_file(examples(made, 1, 32, dtype), folder / "examples.safetensors")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
