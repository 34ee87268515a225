"""Coordinate check: do activations move as far at every width and depth, after a few steps? If so, rates transfer.

size     mean |a|, over features and tokens, of the embedding, of the layers' attentions and MLPs, of the stream that
         leaves the last layer, and of the logits, after some steps on one batch
change   mean |a - a at birth|
slope    of ln change, or of ln size, over ln width or ln depth, with a 95 % interval over sizes and draws

Under a parametrization that carries rates no slope of a change is other than 0 (Yang 2022, arXiv:2203.03466, appendix
D.1): what grows without bound diverges at some width, and what vanishes has stopped to learn there. A parametrization
passes where every slope of a change lies within a tolerance with its whole interval, and no slope of a size exceeds it;
logits may shrink, since muP's begin as small as 1 / sqrt(width). It fails where one lies beyond.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gptlab.config.recipe import Recipe, set_values
from gptlab.errors import Refused
from gptlab.stats.elasticity import fit_slope
from gptlab.stats.labels import label_arm
from gptlab.stats.measurements import DEPTH, WIDTH, Row
from gptlab.study import Build, Study, get_vocab_size

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.model.decoder import Decoder

ROWS = 4
"""Sequences of the batch."""


class CoordinateCheck(Study):
    """Train each arm for a few steps at several widths and depths, and measure how far its activations move.

    widths     of the stream, ascending; the depth is the model's
    depths     numbers of layers, ascending; the width is the model's
    steps      of the recipe's optimizer at its peak rate, all on one batch
    draws      of first values, at each size
    grow       what a wider stream has more of: features of a head, or heads
    tolerance  slope up to which an activation counts as standing still
    vocab      vocabulary size, with random tokens; null reads the recipe's text
    """

    def __init__(
        self,
        *,
        widths: list[int],
        depths: list[int],
        steps: int = 5,
        draws: int = 3,
        grow: Literal["head", "heads"] = "head",
        tolerance: float = 0.25,
        vocab: int | None = None,
    ) -> None:
        for name, sizes in (("widths", widths), ("depths", depths)):
            if sizes and (len(sizes) < 3 or min(sizes) < 1 or sizes != sorted({*sizes})):
                raise ValueError(
                    f"{name}={sizes} does not rise over three sizes or more; try [64,128,256], or [] for none"
                )
        for name, least, value in (("steps", 1, steps), ("draws", 1, draws), ("vocab", 2, vocab)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        if tolerance <= 0:
            raise ValueError(f"tolerance={tolerance} is not positive; try 0.25")
        if not widths and not depths:
            raise ValueError("widths=[] and depths=[] check nothing; give one of them, as widths=[64,128,256]")
        self.widths, self.depths, self.steps, self.draws = widths, depths, steps, draws
        self.grow, self.tolerance, self.vocab = grow, tolerance, vocab

    def check(self, arms: dict[str, Recipe]) -> None:
        from gptlab.training.check import check_recipe

        for name, recipe in arms.items():
            for sizes in self.list_sizes(recipe).values():
                for size, sized in sizes.items():
                    if problems := check_recipe(sized):
                        raise Refused(f"{name} at {size}: {problems[0]}")

    def list_sizes(self, recipe: Recipe) -> dict[str, dict[int, Recipe]]:
        """Return the recipe at each width and at each depth."""
        wide = {width: set_width(recipe, width, self.grow) for width in self.widths}
        deep = {depth: set_values(recipe, model__layers=depth) for depth in self.depths}
        return {dimension: sizes for dimension, sizes in ((WIDTH, wide), (DEPTH, deep)) if sizes}

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        from gptlab.config.factory import factory

        first = next(iter(arms.values()))
        torch.set_num_threads(factory(first.config["trainer"], "trainer")().threads)
        vocab = get_vocab_size(first, self.vocab)
        rows = []
        for name, recipe in shorten_names(arms).items():
            for dimension, sizes in self.list_sizes(recipe).items():
                # moved: by quantity ("change of the stream", ...), then size: one number a draw
                moved: dict[tuple[str, str], dict[int, list[float]]] = {}
                for size, sized in sizes.items():
                    for draw in range(self.draws):
                        # no draw of first values serves two blocks
                        seed = block * self.draws + draw
                        for key, value in self.measure(set_values(sized, seed=seed), vocab, block, build).items():
                            moved.setdefault(key, {}).setdefault(size, []).append(value)
                rows += make_rows(name, dimension, moved, block)
        return rows

    def measure(self, recipe: Recipe, vocab: int, block: int, build: Build) -> dict[tuple[str, str], float]:
        """Return size and change of each kind of activation after the steps, by (kind, quantity)."""
        from gptlab.study.tools.transplant import make_batch

        decoder = build(recipe, vocab)
        tokens, targets = make_batch(recipe, self.vocab, ROWS, block)
        before = record_activations(decoder, tokens)
        train_on_batch(decoder, recipe, tokens, targets, steps=self.steps)
        after = record_activations(decoder, tokens)
        measured = {}
        for kind, outputs in after.items():
            # a mean over the layers that have an activation of this kind
            # one number a layer
            sizes = [now.abs().mean().item() for now in outputs]
            changes = [(now - birth).abs().mean().item() for now, birth in zip(outputs, before[kind], strict=True)]
            measured[kind, "size"] = sum(sizes) / len(sizes)
            measured[kind, "change"] = sum(changes) / len(changes)
        return measured


def shorten_names(arms: dict[str, Recipe]) -> dict[str, Recipe]:
    """Return the arms by their values alone, mup for parametrization=mup, where these tell them apart."""
    by_short_name = {}
    for name, recipe in arms.items():
        by_short_name[" ".join(word.rpartition("=")[2] for word in name.split())] = recipe
    return by_short_name if len(by_short_name) == len(arms) else arms


def set_width(recipe: Recipe, width: int, grow: str) -> Recipe:
    """Return the recipe with another width, and with wider heads or more of them; refuse heads that do not fit."""
    model = recipe.settings.model
    if grow == "head":
        return set_values(recipe, model__width=width, model__head=None)
    head = model.head or model.width // model.heads
    if width % head:
        raise Refused(f"study.grow=heads: heads of {head} do not fill a width of {width}; take multiples of {head}")
    return set_values(recipe, model__width=width, model__heads=width // head, model__head=head)


def train_on_batch(decoder: "Decoder", recipe: Recipe, tokens: "Tensor", targets: "Tensor", *, steps: int) -> None:
    """Take steps of the recipe's optimizer, at its peak rate, on one batch of tokens and targets (B, T)."""
    import torch

    from gptlab.config.factory import factory
    from gptlab.training.optimizer import scale_groups

    optimizer = factory(recipe.config["optimizer"], "optimizer")(decoder.trainable_parameters())
    scale_groups(optimizer, decoder.trainable_parameters(), decoder.scaling)
    decoder.train()
    for _ in range(steps):
        output = decoder(tokens, targets)
        loss = output.loss + sum(output.losses.values())
        optimizer.zero_grad()
        loss.backward()
        # as a run does: what is clipped moves otherwise
        if recipe.settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), recipe.settings.clip)
        optimizer.step()


def record_activations(decoder: "Decoder", tokens: "Tensor") -> "dict[str, list[Tensor]]":
    """Return the outputs of each kind of layer on tokens (B, T), those of all layers in a list, without dropout."""
    import torch

    recorded: dict[str, list[Tensor]] = {"embedding": [], "attention": [], "MLP": [], "stream": [], "logits": []}
    # what enters the last norm is the stream, collapsed where it is several
    hooks = [decoder.norm.register_forward_pre_hook(lambda _, inputs: recorded["stream"].append(inputs[0]))]
    watched = [("embedding", decoder.embedding)]
    for block in decoder.layers:
        watched += [("attention", block.attention), ("MLP", block.mlp)]
    for kind, module in watched:
        hooks.append(module.register_forward_hook(make_recorder(recorded[kind])))
    decoder.eval()
    with torch.no_grad():
        recorded["logits"].append(decoder(tokens).logits)
    for hook in hooks:
        hook.remove()
    return recorded


def make_recorder(outputs: "list[Tensor]") -> Any:
    """Return a forward hook that appends what a module gives to a list."""
    return lambda _, __, output: outputs.append(output)


def make_rows(arm: str, dimension: str, moved: dict[tuple[str, str], dict[int, list[float]]], block: int) -> list[Row]:
    """Return the points of the curves of one arm over one dimension, and their slopes."""
    rows = []
    short = {WIDTH: "width", DEPTH: "depth"}[dimension]
    for (kind, quantity), by_size in moved.items():
        for size, values in by_size.items():
            point = (("", kind), (dimension, str(size)))
            mean = sum(values) / len(values)  # over the draws
            rows.append(Row(label_arm(point), block, f"{arm}: {quantity}", mean, arm_values=point))
        line = (("", arm), ("", kind), ("over", short))
        # of the logarithms: slope 1 doubles the activation with the size
        slope = fit_slope(by_size)
        for name, value in zip(("slope", "low", "high"), slope, strict=True):
            rows.append(Row(label_arm(line), block, f"{name} of {quantity}", value, arm_values=line))
    return rows
