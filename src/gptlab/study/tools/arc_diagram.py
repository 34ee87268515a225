"""A graph as an arc diagram in SVG: nodes in a column in the order they run, edges as arcs beside it. Pure."""

from collections.abc import Mapping, Sequence
from html import escape

ROW = 17
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")


def arcs(nodes: Mapping[str, tuple[str, str, str]], edges: Sequence[tuple[str, str]]) -> str:
    """Nodes by name, each with its part, what it does and what it gives; edges by names. A colour is a kind of part."""
    at = {name: number for number, name in enumerate(nodes)}
    kinds = [*dict.fromkeys(kind(part) for part, _, _ in nodes.values())]
    colour = {one: COLOURS[number % len(COLOURS)] for number, one in enumerate(kinds)}
    most = max((at[b] - at[a] for a, b in edges), default=1)
    middle = min(60 + 6 * most, 420)
    height, width = ROW * len(nodes) + 30, middle + 620
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="ui-monospace, monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for a, b in edges:
        y, to = 20 + ROW * at[a], 20 + ROW * at[b]
        reach = middle - 10 - (middle - 20) * (at[b] - at[a]) / most
        stroke = colour[kind(nodes[a][0])]
        lines.append(
            f'<path d="M{middle},{y} C{reach:.0f},{y} {reach:.0f},{to} {middle},{to}" fill="none" stroke="{stroke}" '
            'stroke-opacity="0.55"/>'
        )
    for name, (part, does, gives) in nodes.items():
        y = 20 + ROW * at[name]
        lines.append(
            f'<circle cx="{middle}" cy="{y}" r="4" fill="{colour[kind(part)]}"><title>{escape(name)}</title></circle>'
        )
        for x, text, shade in ((12, does, "#111"), (290, gives, "#666"), (400, part, "#666")):
            lines.append(f'<text x="{middle + x}" y="{y + 4}" fill="{shade}">{escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def kind(part: str) -> str:
    """blocks.3.attention is of the kind attention."""
    return next((word for word in reversed(part.split(".")) if word and not word.isdigit()), part)
