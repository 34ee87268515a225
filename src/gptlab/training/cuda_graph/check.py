"""What does not go with trainer.cuda_graph=true, one line each."""

from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import Recipe

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

GRADIENT_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
"""Hooks of a callback that would see gradients at the wrong time, or never be called."""


def refuse_uncapturable(recipe: Recipe, decoder: "Decoder", optimizer: Any) -> None:
    """Raise ValueError for a step that is no graph: other kernels from step to step, or numbers of Python's.

    optimizer  the class
    """
    if not getattr(optimizer, "capturable", False):
        name = recipe.choices.get("optimizer", optimizer.__name__)
        raise ValueError(f"trainer.cuda_graph=true knows optimizer=adamw, not {name}; say trainer.cuda_graph=false")
    unfit = {
        f"accumulate={recipe.settings.accumulate}": recipe.settings.accumulate > 1,
        "shuffle_targets=true": recipe.settings.shuffle_targets,
        "data.mask_documents=true": bool(recipe.config["data"].get("mask_documents")),
    }
    for part in decoder.modules():
        # attention has a hand in steps with qk_clip alone
        if callable(getattr(part, "after_step", None)) and getattr(part, "qk_clip", part) is not None:
            unfit[f"a part that acts between steps ({type(part).__name__})"] = True
    for what, is_unfit in unfit.items():
        if is_unfit:
            raise ValueError(f"trainer.cuda_graph=true does not go with {what}; say trainer.cuda_graph=false")


def refuse_gradient_hooks(name: str, callback: Any) -> None:
    """Raise ValueError for a callback, by its class, that looks at gradients, which a graph has no moment for."""
    import lightning

    for hook in GRADIENT_HOOKS:
        if getattr(callback, hook) is not getattr(lightning.Callback, hook):
            raise ValueError(
                f"callback=[{name}] looks at gradients within the step, which trainer.cuda_graph=true repeats as a "
                "whole; leave one of them out"
            )
