"""Pictures of what a position adds to the embeddings: the table, how alike its rows are, and where they lie.

Rows are positions, columns are dimensions. The cosine of two rows tells whether near positions look alike; the first
three principal components show the curve on which they lie. Large tables are thinned, and say so.
"""

from pathlib import Path

import numpy as np

from gptlab.report.figures.study import COLOURS, line, titled
from gptlab.report.model import Figure

MOST = (128, 192)
"""Rows and columns of a picture."""


def table(folder: Path) -> np.ndarray | None:
    """(context, width): a run's table, if its position has one."""
    path = folder / "evaluation.npz"
    if not path.exists():
        return None
    with np.load(path) as kept:
        return kept["position_table"].astype(float) if "position_table" in kept else None


def figures(folder: Path, name: str = "") -> list[Figure]:
    """The three pictures; none where nothing is added."""
    found, of = table(folder), f", {name}" if name else ""
    return [] if found is None else [heat(found, of), cosine(found, of), components(found, of)]


def heat(found: np.ndarray, of: str = "") -> Figure:
    """Position by dimension."""
    rows, columns = (_kept(count, most) for count, most in zip(found.shape, MOST, strict=True))
    shown = found[np.ix_(rows, columns)]
    return _map(f"Position table{of}", shown, rows, columns, "dimension", found.shape, "Viridis", None)


def cosine(found: np.ndarray, of: str = "") -> Figure:
    """Position by position."""
    length = np.linalg.norm(found, axis=1, keepdims=True)
    unit, rows = found / np.where(length > 0, length, 1), _kept(len(found), MOST[0])
    shown = (unit @ unit.T)[np.ix_(rows, rows)]
    return _map(f"Cosine of two positions{of}", shown, rows, rows, "position", (len(found),) * 2, "RdBu", 1.0)


def components(found: np.ndarray, of: str = "") -> Figure:
    """The first three principal components over position."""
    left, sizes, _ = np.linalg.svd(found - found.mean(0), full_matrices=False)
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-30)
    rows = _kept(len(found), MOST[0])
    drawn = (left * sizes)[:, :3][rows]
    names = [f"component {at + 1}: {shares[at]:.0%}" for at in range(drawn.shape[1])]
    data = [line(rows.tolist(), drawn[:, at].tolist(), name, COLOURS[at]) for at, name in enumerate(names)]
    layout = {"xaxis": titled("position"), "height": 320}
    alt = f"they hold {shares[:3].sum():.0%} of the variance"
    values = [(int(row), *one) for row, one in zip(rows, drawn.tolist(), strict=True)]
    heads = ("position", *names)
    return Figure(f"Principal components of the positions{of}", data, layout, alt, heads, values)


def _kept(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _map(
    title: str,
    shown: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    across: str,
    full: tuple[int, ...],
    scale: str,
    limit: float | None,
) -> Figure:
    ends = {"zmin": -limit, "zmax": limit, "reversescale": True} if limit else {}
    trace = {"type": "heatmap", "x": columns.tolist(), "y": rows.tolist(), "z": shown.tolist(), "colorscale": scale}
    layout = {"xaxis": titled(across), "yaxis": titled("position", autorange="reversed"), "height": 420}
    whole = shown.shape == full
    note = "" if whole else f"Thinned: {shown.shape[0]} of {full[0]} rows, {shown.shape[1]} of {full[1]} columns."
    alt = f"{full[0]} by {full[1]} values from {shown.min():.3g} to {shown.max():.3g}"
    values = [(int(row), *one) for row, one in zip(rows, shown.tolist(), strict=True)]
    return Figure(title, [{**trace, **ends}], layout, alt, ("position", *map(str, columns)), values, note)
