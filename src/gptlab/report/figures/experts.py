"""Experts of a mixture: how many tokens each meets."""

from collections.abc import Sequence
from pathlib import Path

from gptlab.report.figures.parts import make_axis
from gptlab.report.model import Figure
from gptlab.runs.record import read_rows
from gptlab.stats.results import Run

LOAD = "train/expert_load/"
"""Keys of metrics.jsonl, one a layer: a histogram with a bar for each expert."""


def draw_loads(runs: Sequence[Run], pool: Path | None) -> list[Figure]:
    """Draw how many tokens each expert meets, of the first finished run of each arm that has a mixture."""
    if pool is None:
        return []
    first_runs: dict[str, Run] = {}
    for run in runs:
        if run.role == "arm" and run.status == "finished" and run.folder:
            first_runs.setdefault(run.arm, run)
    figures = [draw_expert_load(pool / run.folder, f", {arm}, seed {run.seed}") for arm, run in first_runs.items()]
    return [figure for figure in figures if figure is not None]


def draw_expert_load(folder: Path, suffix: str = "") -> Figure | None:
    """Draw the load of each expert in each layer, by the last row of a run's log; None where it has no mixture."""
    loads: dict[int, list[float]] = {}
    for row in read_rows(folder / "metrics.jsonl"):
        for key, value in row.items():
            if key.startswith(LOAD):
                loads[int(key.removeprefix(LOAD))] = value["counts"]
    if not loads:
        return None
    layers, experts = sorted(loads), max(map(len, loads.values()))
    values = [loads[layer] for layer in layers]
    highest, lowest = max(map(max, values)), min(map(min, values))
    trace = {"type": "heatmap", "x": [*range(experts)], "y": layers, "z": values, "zmin": 0, "colorscale": "Viridis"}
    return Figure(
        title=f"Load of each expert{suffix}",
        data=[trace],
        layout={"xaxis": make_axis("expert"), "yaxis": make_axis("layer", autorange="reversed"), "height": 320},
        alt=f"{len(layers)} layers of up to {experts} experts, loads from {lowest:.3g} to {highest:.3g}",
        heads=("layer", *map(str, range(experts))),
        rows=[(layer, *loads[layer]) for layer in layers],
        note="1 is an even share of the choices of the last steps. No token is dropped.",
    )
