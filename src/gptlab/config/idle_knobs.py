"""Knobs and parts that do little or nothing with the rest as it is, found in a resolved config and not by building it.

A line names the part, what it is beside what, and so why a study would say nothing of it. None is an error: a row of a
sweep may well end where its knob stops to act.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]


def describe_idle_knobs(config: Config) -> Iterator[str]:
    """Yield a line for each part that does little or nothing in a run of this config."""
    change, callbacks = config["change"], config["callback"]
    if "lora" in change and not config.get("pretrained"):
        yield "change=[lora] without pretrained: the weights that it freezes were drawn, not trained"
    if config["optimizer"].get("lr") == 0:
        yield "optimizer.lr=0: nothing is learnt"
    if "schedule_free" in config["optimizer"]["_target_"] and ".constant." not in config["schedule"]["_target_"]:
        yield "optimizer=schedule_free averages weights in place of a rate that falls; beside it say schedule=constant"
    if "prune" in change and change["prune"]["start"] == 0 and change["prune"]["ramp"] == 0:
        yield "change=[prune] with start=0 and ramp=0: the sizes by which it chooses were drawn, not trained"
    if (every := callbacks.get("last_k", {}).get("every", 0)) > config["steps"]:
        yield f"callback=[last_k] averages nothing: every={every} is beyond steps={config['steps']}"
    for slot in ("attention", "mlp"):
        yield from _describe_absent_kinds(slot, config)
    for path, node in _list_choices("attention", config["attention"]):
        yield from _describe_window(path, node, config["model"]["context"])
    for path, node in _list_choices("mlp", config["mlp"]):
        if node.get("experts", 1) > 1 and node["experts"] == node.get("top_k"):
            yield f"{path}.top_k={node['top_k']} is all of its experts: nothing is chosen, and balance spreads nothing"
    thetas = config["position"].get("theta")
    if isinstance(thetas, list) and len({*thetas}) > 1 and not _has_windows(config["attention"]):
        yield "position.theta differs by layer and no window of attention does: it is made for attention=local_global"


def describe_idle_decay(config: Config, mean_factor: float) -> Iterator[str]:
    """Yield a line if a decoupled weight decay shrinks weights by less than a twentieth over the run.

    mean_factor  mean of the schedule, of the peak rate
    """
    optimizer = config["optimizer"]
    decay, rate = optimizer.get("weight_decay"), optimizer.get("lr")
    # of sgd the decay goes through the momentum, and counts several times
    if decay and rate and "momentum" not in optimizer:
        shrinkage = rate * mean_factor * decay * config["steps"]
        if shrinkage < LEAST_SHRINKAGE:
            yield (
                f"optimizer.weight_decay={decay:g} shrinks weights by {shrinkage:.1%} in the whole run, so that it can "
                "hardly matter"
            )


LEAST_SHRINKAGE = 0.05
"""Sum of rate x decay over a run. Below it a weight ends within 5 % of where it would end without any decay."""


def _describe_window(path: str, node: Config, context: int) -> Iterator[str]:
    """Yield a line for a window that hides nothing, or all but a token itself."""
    window = node.get("window")
    if window == 1:
        yield f"{path}.window=1: a token sees itself alone"
    elif window is not None and window >= context:
        yield f"{path}.window={window} hides nothing in a context of {context}"


def _describe_absent_kinds(slot: str, config: Config) -> Iterator[str]:
    """Yield a line for the kinds of a pattern that no layer is of."""
    node, layers = config[slot], config["model"]["layers"]
    layout = node.get("layout")
    # change.quantize has a layout of another form; here it is names of kinds
    if not layout or "kinds" not in node:
        return
    present = {layout[layer % len(layout)] for layer in range(layers - bool(node.get("last")))} | {node.get("last")}
    absent = [kind for kind in node["kinds"] if kind not in present and kind in layout]
    if absent:
        yield f"{slot}.layout has {len(layout)} layers and the model {layers}: {', '.join(absent)} never occurs"


def _list_choices(path: str, node: Config) -> Iterator[tuple[str, Config]]:
    """Yield a slot's choice, or those that its pattern tiles, each with its path."""
    if "kinds" not in node:
        yield path, node
    for name, kind in node.get("kinds", {}).items():
        yield from _list_choices(f"{path}.kinds.{name}", kind)


def _has_windows(attention: Config) -> bool:
    return len({node.get("window") for _, node in _list_choices("attention", attention)}) > 1
