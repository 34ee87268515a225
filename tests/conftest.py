"""What the laws share: the menu in conf/, and decoders of any choices at sizes that no two axes share."""

import gc
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from forked_process import stop_server
from hydra import initialize_config_dir
from kept_compositions import keep_compositions
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from gptlab import compose as wiring
from gptlab.config.menu import list_choices
from gptlab.config.recipe import LISTS, OPTIONAL_SLOTS, PARTS, SLOTS, Recipe
from gptlab.model.attention import Attention
from gptlab.model.decoder import Decoder
from gptlab.model.rng import derive_seed

ROOT = Path(__file__).parents[1]
CONF, SOURCE = ROOT / "conf", ROOT / "src" / "gptlab"
BATCH, TIME, VOCAB = 2, 17, 31
SIZES = ("model.width=60", "model.heads=6", "model.layers=3", "model.context=64", "bias=true")
"""With biases, so that all parameters are there that can be."""


@pytest.fixture(scope="session", autouse=True)
def one_core() -> Iterator[None]:
    """Tests run side by side already: a thread, and a cell of a study, at a time."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gptlab.ablation.jobs.count_cores", lambda: 1)
        patch.setattr("os.fsync", lambda file: None)  # no test cuts the power
        keep_compositions(patch)
        yield
    stop_server()


@pytest.fixture(scope="module", autouse=True)
def quick_garbage_collection() -> Iterator[None]:
    """Each run collects garbage, 0.3 s where all of torch and lightning is looked through: what is there, stays."""
    gc.freeze()
    yield
    gc.collect()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what is thorough, and all cases of what is marked `few`, where a file or a test is named.

    Else all but a few cases of such a test are slow.
    """
    if config.option.keyword or any("::" in word or word.endswith(".py") for word in config.args):
        config.option.markexpr = config.option.markexpr.replace(" and not thorough", "")
        return
    cases: dict[tuple[str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        few = item.get_closest_marker("few")
        if few is not None and item.get_closest_marker("slow") is None:
            cases[item.nodeid.partition("[")[0], few.args[0]].append(item)
    for (_, count), of_test in cases.items():
        kept = np.linspace(0, len(of_test) - 1, count).round()  # evenly, so that every slot has some
        for number, item in enumerate(of_test):
            if number not in kept:
                item.add_marker("slow")


# -- the menu


def choices(slot: str) -> list[str]:
    """The YAMLs of a slot, those of registered packages too."""
    return list_choices(slot)


CASES = [f"{slot}={choice}" for slot in (*PARTS, "init", "experiment") for choice in choices(slot)]
"""Every choice that shapes a decoder, the others at their defaults."""
CASES += [
    "attention=gqa attention.gate=true attention.sink=true attention.softcap=3 attention.value_residual=true",
    "attention=swa attention.qk_norm=true attention.window=5 attention.sink=true position=alibi",
    "attention=swa attention.qk_norm=whole attention.gate=head attention.forget_gate=true attention.exclusive=true",
    "attention=mha attention.value_embedding=gate",
    "attention=gqa attention.short_conv=4 attention.window=5",
    "attention=linear attention.decay=0.7 attention.chunk=5",
    "attention=swa model.loops=2",
    "attention=shared model.loops=2 model.loop_order=repeat",
    "mlp=moe mlp.experts=3 mlp.top_k=1 mlp.normalize=false mlp.shared=true",
    "attention=local_global position=rope_local_global",
    "position=rope position.scaling=yarn position.factor=4 position.original=16",
    *(f"residual=hyper residual.streams=3 block={block}" for block in choices("block") if block != "sequential"),
]
"""Knobs that are off in every choice, and what is most likely to fail together."""
POSITIONS = [position for position in choices("position") if position != "rope_local_global"]  # which is rope


def pair_attentions_with_positions() -> list[Any]:
    """All pairs; slow, but for those with a default in them and one more for each attention, the positions in turn."""
    pairs: list[Any] = []
    for number, attention in enumerate(choices("attention")):
        quick = {"rope", POSITIONS[number % len(POSITIONS)]}
        for position in POSITIONS:
            marks = () if attention == "mha" or position in quick else (pytest.mark.slow,)
            pairs.append(pytest.param(f"attention={attention} position={position}", marks=marks))
    return pairs


PAIRS = pair_attentions_with_positions()
"""What knows of positions, in all combinations."""
MET = {*(f"attention={a}" for a in choices("attention")), *(f"position={p}" for p in POSITIONS)}
EVERY = PAIRS + [case for case in CASES if case not in MET]
"""All cases, but those that are pairs with a default."""


@cache
def composed(*overrides: str) -> Recipe:
    """A recipe as the command line composes it."""
    return wiring.compose(list(overrides))


@cache
def compose_every_choice() -> list[tuple[dict[str, str], DictConfig]]:
    """Configs that have every choice of every slot among them. No slot refers to another, so each has one of all."""
    rows = []
    for row in zip_longest(*map(choices, SLOTS)):
        chosen = {slot: choice for slot, choice in zip(SLOTS, row, strict=True) if choice}
        asked = [f"{slot}=[{choice}]" if slot in LISTS else f"{slot}={choice}" for slot, choice in chosen.items()]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            rows.append((chosen, wiring.compose_with_hydra("train", asked)))
    return rows


@cache
def menu(*sizes: str) -> dict[str, dict[str, Any]]:
    """Every choice's node by slot and name, resolved at these sizes: `${model.*}` and root values are all it reads."""
    nodes: dict[str, dict[str, Any]] = {slot: {} for slot in SLOTS}
    sized = {key: value for key, value in composed(*sizes).config.items() if key not in (*SLOTS, *OPTIONAL_SLOTS)}
    for chosen, config in compose_every_choice():
        config.update({key: value for key, value in sized.items() if key in config})
        for slot, choice in chosen.items():
            node: Any = OmegaConf.to_container(config[slot], resolve=True)
            nodes[slot][choice] = node[choice] if slot in LISTS else node
    return nodes


def recipe(case: str = "", sizes: tuple[str, ...] = SIZES, **root: Any) -> Recipe:
    """The recipe of "slot=choice slot.knob=value", all else at its default; `root` sets keys such as seed."""
    words = dict(one.split("=") for one in case.split())
    knobs = {word: yaml.safe_load(value) for word, value in words.items() if "." in word}
    chosen = {word: value for word, value in words.items() if "." not in word}
    whole = [f"experiment={chosen.pop('experiment')}"] if "experiment" in chosen else []
    config = composed(*sizes, *whole).config
    config = config | {slot: menu(*sizes)[slot][choice] for slot, choice in chosen.items()} | root
    for word, value in knobs.items():
        slot, knob = word.split(".")
        assert knob in config[slot], word
        config[slot] = config[slot] | {knob: value}
    # a pattern shows itself only in so many layers
    tiled = [len(config["attention"].get("layout", ())), len(np.atleast_1d(config["position"].get("theta", 0)))]
    return Recipe(config | {"model": config["model"] | {"layers": max(config["model"]["layers"], *tiled)}})


# -- decoders and tokens


def decoder(case: str = "", sizes: tuple[str, ...] = SIZES) -> Decoder:
    """The decoder of a case in float64, at rest, every weight moved so that nothing is zero by luck."""
    try:
        made = wiring.build_decoder(recipe(case, sizes), VOCAB).double().eval()
    except ValueError as refused:
        if "cannot honour" in str(refused):
            pytest.skip(f"refused: {refused}")
        raise
    perturb(made)
    return made


@torch.no_grad()
def perturb(module: nn.Module, by: float = 0.2) -> None:
    """Moves each parameter by noise that depends on its name alone."""
    for name, p in module.named_parameters():
        p += by * normal(*p.shape, key=f"moved {name}")


def tokens(*shape: int, key: str = "tokens", below: int = VOCAB) -> Tensor:
    """Random tokens, always the same for the same key and shape."""
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(derive_seed(0, key)))


def normal(*shape: int, key: str = "normal") -> Tensor:
    """Random numbers in float64, always the same for the same key and shape."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(derive_seed(0, key)))


def attentions(made: Decoder) -> list[Attention]:
    """The attention of each layer."""
    return [part for part in made.modules() if isinstance(part, Attention)]
