"""A recipe checked, and made into its decoder. No hydra; torch only when it is needed."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gptlab.config.factory import check_node, factory
from gptlab.config.recipe import LISTS, PARTS, SLOTS, Recipe, check_settings
from gptlab.model.compile_policy import at_once
from gptlab.runs import tracker as tracking
from gptlab.weights.pretrained import source

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


def check(made: Recipe) -> list[str]:
    """All that is wrong with a recipe, one line each, before any compute; plain keys first, without torch."""
    wrong = check_settings(made.config)
    if not wrong:
        wrong = _refused(lambda: tracking.choose_mode(made.settings.tracking))
        wrong += [line for slot in SLOTS if slot not in LISTS for line in check_node(made.config.get(slot), slot)]
        wrong += _check_list(made, "change")
    # Metrics and callbacks last: they import torchmetrics and lightning, for which other refusals need not wait.
    return wrong or _check_build(made) or _check_shares(made) or _check_list(made, "metric") or _check_callbacks(made)


def _check_callbacks(made: Recipe) -> list[str]:
    wrong = _check_list(made, "callback")

    def build_all() -> None:
        for name, node in made.config["callback"].items():
            factory(node, f"callback.{name}")()

    return wrong or _refused(build_all)


def _check_shares(made: Recipe) -> list[str]:
    """Every process has as many rows of each micro-batch as the others."""
    settings, trainer = made.settings, made.config["trainer"]
    processes = trainer["devices"] * trainer["nodes"]
    shares = processes * settings.accumulate
    if settings.batch_size % shares == 0:
        return []
    asked = f"batch_size={settings.batch_size} does not divide among {processes} processes x accumulate"
    return [f"{asked}={settings.accumulate}; try batch_size={-(-settings.batch_size // shares) * shares}"]


def sketch(made: Recipe, vocab: int) -> "Decoder":
    """The decoder of a recipe without memory, on the meta device: for its refusals and its counts."""
    import torch
    from torch.overrides import TorchFunctionMode

    class NoInit(TorchFunctionMode):  # on meta nothing is drawn, and drawing would import torch._dynamo (1.7 s)
        def __torch_function__(self, func, types, args=(), kwargs=None):
            drawn = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in DRAWS
            kwargs = kwargs or {}
            return next(iter((*args, *kwargs.values()))) if drawn else func(*args, **kwargs)

    with NoInit(), torch.device("meta"):
        return decoder(made, vocab)


def _check_build(made: Recipe) -> list[str]:
    import torch

    def build_all() -> None:
        if node := made.config.get("pretrained"):
            begin = source(node)
            plain = replace(made, config={**made.config, "change": {}})
            begin.check(sketch(plain, begin.vocab()))
        sketch(made, vocab=64)
        for slot in ("init", "data", "schedule"):
            factory(made.config[slot], slot)()
        trainer = factory(made.config["trainer"], "trainer")()
        at_once(made.settings.compile, {"gpu": "cuda"}.get(trainer.accelerator, "cpu"))
        optimizer = factory(made.config["optimizer"], "optimizer")
        optimizer([("weight", torch.nn.Parameter(torch.zeros(2, 2)))])
        changes = {f"change=[{name}]": factory(node, f"change.{name}") for name, node in made.config["change"].items()}
        name = f"optimizer={made.choices.get('optimizer', optimizer.target.__name__)}"
        for asked, one in {**changes, name: optimizer}.items():
            if getattr(one.target, "needs_whole_matrices", False) and trainer.strategy == "fsdp":
                raise ValueError(f"{asked} needs whole matrices, which trainer=fsdp cuts up; use trainer=ddp")

    return _refused(build_all)


def _check_list(made: Recipe, slot: str) -> list[str]:
    return [line for name, node in made.config[slot].items() for line in check_node(node, f"{slot}.{name}")]


def _refused(act: Callable[[], Any]) -> list[str]:
    """What acting is refused with, if it is."""
    try:
        act()
    except ValueError as error:
        return [str(error).splitlines()[0]]
    return []


DRAWS = ("normal_", "uniform_", "zero_", "fill_")


def decoder(made: Recipe, vocab: int) -> "Decoder":
    """The decoder of a recipe over `vocab` tokens, changes made, with whatever first values its parts give themselves:
    for weights to be loaded."""
    return changed(made, unchanged(made, vocab))


def unchanged(made: Recipe, vocab: int) -> "Decoder":
    """The decoder of a recipe before its changes. Rows that `vocab_multiple` adds take part in the softmax, as
    nanoGPT's do, and learn to be unlikely."""
    from gptlab.model.decoder import Decoder
    from gptlab.model.shape import Shape

    sizes = made.settings.model
    multiple = made.settings.vocab_multiple
    rows = -(-vocab // multiple) * multiple
    shape = Shape(sizes.width, sizes.heads, sizes.layers, sizes.context, rows, sizes.head or 0, vocab)
    parts = {slot: factory(made.config[slot], slot) for slot in PARTS}
    return Decoder(shape, **parts, dropout=made.settings.dropout, final_norm=made.settings.final_norm)


def changed(made: Recipe, plain: "Decoder") -> "Decoder":
    """A decoder that has its first weights, drawn or loaded, after the changes of a recipe, in their order."""
    for name, node in made.config["change"].items():
        make = factory(node, f"change.{name}")
        change = make()
        make.telling(change.meet, made.settings.steps)
        plain = make.telling(change, plain, made.settings.seed)
    return plain


def build(made: Recipe, vocab: int, begins: bool = False) -> "Decoder":
    """The decoder of a recipe with its weights set by the init choice, keyed by seed and name; those of a checkpoint
    instead where a run `begins` that names one; then changed. Leaves torch's random state alone."""
    import torch

    from gptlab.model.init import initialize

    with torch.random.fork_rng(devices=[]):
        plain = unchanged(made, vocab)
        init = factory(made.config["init"], "init")()
        initialize(plain, init, plain.shape, made.settings.seed)
        if begins:
            start(made, plain)
        return changed(made, plain)


def start(made: Recipe, fresh: "Decoder") -> None:
    """Gives a new decoder the weights that it starts from, if the recipe names any."""
    if node := made.config.get("pretrained"):
        source(node).load(fresh)
