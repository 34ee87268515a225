"""Refusals of study knobs that would change nothing or do not go together, and of a metric that no run computes."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from gptlab.errors import Refused

if TYPE_CHECKING:
    from gptlab.ablation.cells import Variant
    from gptlab.ablation.options import StudyOptions

WRITTEN_BY = {
    "val/bits_per_byte": ("bits_per_byte",),
    "val/perplexity": ("perplexity",),
    "val/token_accuracy": ("token_accuracy",),
    "val/answer_accuracy": ("answer_accuracy", "written_answers"),
    "val/word_accuracy": ("word_accuracy", "word_accuracy_original"),
    "val/answer_bits": ("answer_bits",),
    "val/minimal_pairs": ("minimal_pairs",),
}
"""Choices of `metric` that write a key of summary.json; all other keys are written by every run."""
OF_SEARCH = ("val/loss_select", "val/loss_test")
"""Keys of the halves of the validation split, which a search alone has."""


def refuse_idle_options(options: "StudyOptions", typed: Collection[str]) -> None:
    """Refuse knobs of the command line that speak of what this study does not do, so that they would change nothing."""
    lines = [line for knob, line in _list_idle(options) if knob in typed]
    if lines:
        raise Refused("\nerror: ".join(lines))


def _list_idle(options: "StudyOptions") -> Iterator[tuple[str, str]]:
    """Yield the knobs that would change nothing, each with the line that says so."""
    is_search = options.design == "search" or options.kind == "search"
    for knob in () if is_search else ("trials", "sampler", "limits"):
        yield knob, f"{knob}={getattr(options, knob)} speaks of design=search; say so, or leave {knob} out"
    if options.kind == "search":
        yield "sampler", f"sampler={options.sampler}: study=search compares several; say study.samplers=[random,tpe]"
    if options.match != "params":
        yield (
            "resize",
            f"resize={options.resize} is what match=params turns, and match is {options.match}; leave it out",
        )
    if options.tune == "shared":
        yield "lr_grid", f"lr_grid={options.lr_grid} speaks of tune=grid; say so, or leave lr_grid out"
    if not options.ladder:
        multiple = options.tokens_per_parameter
        yield (
            "tokens_per_parameter",
            f"tokens_per_parameter={multiple:g} speaks of a ladder; give ladder=[nano,micro], or steps=",
        )
    elif options.rung_tokens:
        yield (
            "tokens_per_parameter",
            "rung_tokens and tokens_per_parameter both say a rung's tokens; leave one of them out",
        )
    if not options.project:
        limit = f"project_limit={options.project_limit:g}"
        yield "project_limit", f"{limit} speaks of project=; name a size to project to, or leave it out"


def refuse_absent_metric(options: "StudyOptions", variants: "list[Variant]") -> None:
    """Refuse `decides` where a run would not have that number, so that there could be no verdict."""
    if options.decides is None:
        return
    if options.decides in OF_SEARCH and options.design != "search":
        raise Refused(f"decides={options.decides} is of design=search alone; say decides=val/loss")
    choices = next((names for key, names in WRITTEN_BY.items() if _is_of(options.decides, key)), None)
    if choices is None:
        return
    lacking = [variant.key for variant in variants if not {*choices} & {*variant.recipe.config["metric"]}]
    if lacking:
        # named where it is not all of them
        whose = "" if len(lacking) == len(variants) else f" in {', '.join(lacking)}"
        raise Refused(
            f"decides={options.decides} is computed by metric=[{choices[0]}], which is not given{whose}; add it"
        )


def _is_of(decides: str, key: str) -> bool:
    """Whether a key of summary.json is `key`, or that of one of its tasks."""
    return decides == key or decides.startswith(f"{key}_")


def refuse_unfit_search(options: "StudyOptions", axes: dict[str, list[str]]) -> None:
    """Refuse a search of nothing, and options that do not go with one."""
    if not axes:
        raise Refused("design=search has nothing to vary; give axes, as in attention=mha,gqa model.layers=2,4")
    if mixed := [axis for axis in axes if axis.split(".")[0] in ("tokenizer", "data")]:
        raise Refused(
            f"design=search chooses by nats per token, which {', '.join(mixed)} would change the meaning of; "
            "compare those with design=grid, by bits per byte"
        )
    for knob, required in {"match": "tokens", "tune": "shared", "budget": [], "baseline": None}.items():
        if getattr(options, knob) != required:
            raise Refused(f"{knob}={getattr(options, knob)} does not go with design=search; leave it out")
