"""Pictures of what a position adds to the embeddings: the table, how alike its rows are, and where they lie.

Rows are positions, columns are dimensions. The cosine of two rows tells whether near positions look alike; the first
three principal components show the curve on which they lie. Large tables are thinned, and say so.
"""

from pathlib import Path
from typing import Any

import numpy as np

from gptlab.report.evaluation_file import read_evaluation
from gptlab.report.figures.parts import COLOURS, make_axis, make_line
from gptlab.report.model import Figure

MAX_SHAPE = (128, 192)
"""Rows and columns of a picture."""


def read_position_table(folder: Path) -> np.ndarray | None:
    """Return a run's table (context, width); None if its position has none."""
    arrays = read_evaluation(folder, "position_table")
    return arrays["position_table"].astype(float) if arrays else None


def draw_position_figures(folder: Path, name: str = "") -> list[Figure]:
    """Draw the three pictures of a run, whose name stands in their titles; none where nothing is added."""
    table, suffix = read_position_table(folder), f", {name}" if name else ""
    if table is None:
        return []
    return [draw_table(table, suffix), draw_cosine(table, suffix), draw_components(table, suffix)]


def draw_table(table: np.ndarray, suffix: str = "") -> Figure:
    """Draw position by dimension."""
    rows, columns = (_spread_indices(count, most) for count, most in zip(table.shape, MAX_SHAPE, strict=True))
    return _draw_heatmap(
        f"Position table{suffix}",
        table[np.ix_(rows, columns)],
        rows,
        columns,
        x_title="dimension",
        full_shape=table.shape,
        style={"colorscale": "Viridis"},
    )


def draw_cosine(table: np.ndarray, suffix: str = "") -> Figure:
    """Draw the cosine of every two positions; a position of zeros has cosine 0 with all."""
    length = np.linalg.norm(table, axis=1, keepdims=True)
    # all rows before thinning: each cosine is exact, only fewer are drawn
    unit, rows = table / np.where(length > 0, length, 1), _spread_indices(len(table), MAX_SHAPE[0])
    return _draw_heatmap(
        f"Cosine of two positions{suffix}",
        (unit @ unit.T)[np.ix_(rows, rows)],
        rows,
        rows,
        x_title="position",
        full_shape=(len(table), len(table)),
        style={"colorscale": "RdBu", "zmin": -1.0, "zmax": 1.0, "reversescale": True},
    )


def draw_components(table: np.ndarray, suffix: str = "") -> Figure:
    """Draw the first three principal components over position."""
    # left * sizes are the scores of each position on each component
    # centred, or the first component would be the mean row
    # table - mean = left @ diag(sizes) @ components
    left, sizes, _ = np.linalg.svd(table - table.mean(0), full_matrices=False)
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-30)
    rows = _spread_indices(len(table), MAX_SHAPE[0])
    scores = (left * sizes)[:, :3][rows]
    names = [f"component {number + 1}: {shares[number]:.0%}" for number in range(scores.shape[1])]
    traces = [
        make_line(rows.tolist(), scores[:, number].tolist(), name, COLOURS[number]) for number, name in enumerate(names)
    ]
    return Figure(
        title=f"Principal components of the positions{suffix}",
        data=traces,
        layout={"xaxis": make_axis("position"), "height": 320},
        alt=f"they hold {shares[:3].sum():.0%} of the variance",
        heads=("position", *names),
        rows=[(int(row), *values) for row, values in zip(rows, scores.tolist(), strict=True)],
    )


def _spread_indices(count: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spread indices below `count`, the first and the last one among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _draw_heatmap(
    title: str,
    values: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    x_title: str,
    full_shape: tuple[int, ...],
    style: dict[str, Any],
) -> Figure:
    """Draw `values` at positions `rows`; they are part of a table of `full_shape`."""
    trace = {"type": "heatmap", "x": columns.tolist(), "y": rows.tolist(), "z": values.tolist(), **style}
    (height, width), (full_height, full_width) = values.shape, full_shape
    is_whole = values.shape == full_shape
    note = "" if is_whole else f"Thinned: {height} of {full_height} rows, {width} of {full_width} columns."
    return Figure(
        title=title,
        data=[trace],
        layout={
            "xaxis": make_axis(x_title),
            "yaxis": make_axis("position", autorange="reversed"),
            "height": 420,
        },
        alt=f"{full_height} by {full_width} values from {values.min():.3g} to {values.max():.3g}",
        heads=("position", *map(str, columns)),
        rows=[(int(row), *line) for row, line in zip(rows, values.tolist(), strict=True)],
        note=note,
    )
