"""One training step (forward, backward, AdamW) of our decoder against other people's decoders of the same size.

    python benchmarks/step.py                       # 4 layers, 128 wide, batch 12 x 64, vocabulary 65
    python benchmarks/step.py --threads 1 --nanogpt FOLDER

Arms take turns, step by step, in one process; the second arm of GPT-2 slots shows what chance does. Ratios are to the
first arm: nanoGPT's model.py where --nanogpt names its folder, else transformers' GPT2LMHeadModel, which takes
pip install -e ".[pretrained]". x-transformers is an arm where it is installed. All arms share the malloc that train.py
sets up, which serves the others too; GPTLAB_MALLOC=default leaves it as it is.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

from gptlab import compose as wiring
from gptlab.config.factory import factory
from gptlab.runs.malloc import keep_freed_memory

SIZES = {"width": 128, "heads": 4, "layers": 4, "context": 64, "batch_size": 12}
VOCAB = 65
SLOTS = {
    "GPT-2 slots": ["experiment=gpt2"],
    "GPT-2 slots again": ["experiment=gpt2"],
    "nanoGPT's slots": ["position=learned", "norm=layernorm", "mlp=gelu", "init=gpt2"],
    "default slots": [],
}
Arm = tuple[nn.Module, torch.optim.Optimizer, Callable]
"""A model, its optimizer, and its loss of tokens and targets."""


def make_transformers_gpt2() -> Arm:
    """Make transformers' GPT-2 without dropout, as ours has none, and the fused AdamW of transformers' Trainer."""
    from transformers import GPT2Config, GPT2LMHeadModel, logging

    logging.set_verbosity_error()
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=SIZES["context"],
        n_embd=SIZES["width"],
        n_layer=SIZES["layers"],
        n_head=SIZES["heads"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    return model, optimizer, lambda tokens, targets: model(tokens, labels=targets, shift_labels=targets).loss


def make_nanogpt(folder: str) -> Arm:
    """Make nanoGPT's model and optimizer as its train.py makes them for a laptop, without dropout."""
    sys.path.insert(0, folder)
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    sizes = {"n_layer": SIZES["layers"], "n_head": SIZES["heads"], "n_embd": SIZES["width"]}
    model = GPT(GPTConfig(vocab_size=VOCAB, block_size=SIZES["context"], dropout=0.0, bias=False, **sizes)).train()
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    return model, optimizer, lambda tokens, targets: model(tokens, targets)[1]


def make_x_transformers() -> Arm:
    """Make a decoder of x-transformers with RoPE, RMSNorm and SwiGLU, as our default slots, and fused AdamW."""
    from x_transformers import Decoder, TransformerWrapper  # type: ignore[import-not-found]

    layers = Decoder(
        dim=SIZES["width"],
        depth=SIZES["layers"],
        heads=SIZES["heads"],
        attn_dim_head=SIZES["width"] // SIZES["heads"],
        attn_flash=True,
        rotary_pos_emb=True,
        use_rmsnorm=True,
        ff_swish=True,
        ff_glu=True,
        ff_mult=8 / 3,
        ff_no_bias=True,
    )
    model = TransformerWrapper(
        num_tokens=VOCAB, max_seq_len=SIZES["context"], tie_embedding=True, use_abs_pos_emb=False, attn_layers=layers
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    return model, optimizer, lambda tokens, targets: cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def make_ours(overrides: list[str]) -> Arm:
    """Make our decoder and optimizer as train.py makes them."""
    recipe = wiring.compose(
        ["model=micro", "vocab_multiple=1", *(f"model.{k}={v}" for k, v in SIZES.items()), *overrides]
    )
    decoder = wiring.build_decoder(recipe, VOCAB).train()
    optimizer = factory(recipe.config["optimizer"], "optimizer")(decoder.named_parameters())
    return decoder, optimizer, lambda tokens, targets: decoder(tokens, targets).loss


def make_step(optimizer: torch.optim.Optimizer, loss: Callable) -> Callable[[], None]:
    """Return a training step on random tokens."""
    tokens, targets = torch.randint(VOCAB, (2, SIZES["batch_size"], SIZES["context"]))

    def step() -> None:
        loss(tokens, targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--nanogpt", metavar="FOLDER", help="a clone of nanoGPT, whose model.py is the first arm")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    torch.manual_seed(0)
    arms: dict[str, Arm] = {"nanoGPT": make_nanogpt(given.nanogpt)} if given.nanogpt else {}
    arms |= {"transformers GPT2LMHeadModel": make_transformers_gpt2()}
    arms |= {"x-transformers": make_x_transformers()} if importlib.util.find_spec("x_transformers") else {}
    arms |= {name: make_ours(slots) for name, slots in SLOTS.items()}
    steps = {name: make_step(optimizer, loss) for name, (_, optimizer, loss) in arms.items()}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(given.rounds + 10):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 10:  # warm
                times[name].append(time.perf_counter() - start)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in (f"{given.threads} threads, torch {torch.__version__}", "parameters", "ms a step", "ratio"):
        table.add_column(column, justify="left" if not table.columns else "right")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, (model, *_) in arms.items():
        count = sum(p.numel() for p in model.parameters())
        ratio = medians[name] / next(iter(medians.values()))
        table.add_row(name, f"{count:,}", f"{medians[name] * 1000:.2f}", f"{ratio:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
