"""Recipe to decoder: its base, first values, starting weights, changes. No hydra; torch only when it is needed."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gptlab.config.factory import factory
from gptlab.config.recipe import PARTS, Recipe
from gptlab.model.meta_device import build_without_memory
from gptlab.weights.pretrained import load_source

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder


def build_decoder(recipe: Recipe, vocab: int, load_start: bool = False) -> "Decoder":
    """Build the decoder of a recipe: base, init keyed by seed and parameter name, starting weights, changes.

    With `load_start` the weights of `pretrained` replace the drawn ones. Torch's random state is left alone.
    """
    import torch

    from gptlab.model.init import initialize

    with torch.random.fork_rng(devices=[]):
        decoder = build_base(recipe, vocab)
        init = factory(recipe.config["init"], "init")()
        initialize(decoder, init, decoder.shape, recipe.settings.seed, scaling=decoder.scaling)
        if load_start:
            load_starting_weights(recipe, decoder)
        return apply_changes(recipe, decoder)


def build_base(recipe: Recipe, vocab: int) -> "Decoder":
    """Build the decoder of a recipe before its changes.

    Rows that `vocab_multiple` adds take part in the softmax, as nanoGPT's do, and learn to be unlikely.
    """
    from gptlab.model.decoder import Decoder
    from gptlab.model.shape import Shape

    sizes, multiple = recipe.settings.model, recipe.settings.vocab_multiple
    shape = Shape(
        width=sizes.width,
        heads=sizes.heads,
        layers=sizes.layers,
        context=sizes.context,
        vocab=-(-vocab // multiple) * multiple,  # rounded up
        head=sizes.head or 0,
        tokens=vocab,
    )
    make_parametrization = factory(recipe.config["parametrization"], "parametrization")
    parametrization = make_parametrization()
    shape = parametrization.rebase(shape)
    parts = {slot: factory(recipe.config[slot], slot) for slot in PARTS}
    knobs: dict[str, Any] = {"loops": sizes.loops, "loop_order": sizes.loop_order}
    for knob in ("dropout", "final_norm", "embedding_norm", "embedding_scale"):
        knobs[knob] = getattr(recipe.settings, knob)
    decoder = Decoder(shape, **parts, **knobs)

    def build_wider() -> Decoder:
        with build_without_memory():
            return Decoder(replace(shape, width=2 * shape.width, head=2 * shape.head), **parts, **knobs)

    decoder.scaling = make_parametrization.call(parametrization.find_scaling, decoder, build_wider)
    return decoder


def load_starting_weights(recipe: Recipe, decoder: "Decoder") -> None:
    """Load the weights that a decoder starts from, if the recipe names any."""
    if node := recipe.config.get("pretrained"):
        load_source(node).load(decoder)


def apply_changes(recipe: Recipe, decoder: "Decoder") -> "Decoder":
    """Apply the changes of a recipe, in their order, to a decoder that has its first weights, drawn or loaded."""
    for name, node in recipe.config["change"].items():
        make = factory(node, f"change.{name}")
        change = make()
        make.call(change.check_compatible, recipe.settings.steps)
        decoder = make.call(change, decoder, recipe.settings.seed)
    return decoder


def build_uninitialized(recipe: Recipe, vocab: int) -> "Decoder":
    """Build the decoder of a recipe over `vocab` tokens, changes made, for weights to be loaded.

    Its first values are whatever its parts give themselves.
    """
    return apply_changes(recipe, build_base(recipe, vocab))


def build_on_meta(recipe: Recipe, vocab: int) -> "Decoder":
    """Build the decoder of a recipe without memory, on the meta device: for its refusals and its counts."""
    with build_without_memory():
        return build_uninitialized(recipe, vocab)
