"""Arc diagrams of graphs in SVG: nodes in a column in the order they run, edges as arcs beside it. Pure."""

from collections.abc import Mapping, Sequence
from html import escape

ROW = 17
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")


def render_arc_diagram(nodes: Mapping[str, tuple[str, str, str]], edges: Sequence[tuple[str, str]]) -> str:
    """Return the SVG of nodes {name: (part, operator, shape)} and edges (source, user), coloured by kind of part."""
    row = {name: number for number, name in enumerate(nodes)}
    kinds = [*dict.fromkeys(find_part_kind(part) for part, _, _ in nodes.values())]
    colour = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(kinds)}
    longest = max((row[user] - row[source] for source, user in edges), default=1)
    middle = min(60 + 6 * longest, 420)
    height, width = ROW * len(nodes) + 30, middle + 620
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="ui-monospace, monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for source, user in edges:
        y, end_y = 20 + ROW * row[source], 20 + ROW * row[user]
        control_x = middle - 10 - (middle - 20) * (row[user] - row[source]) / longest
        stroke = colour[find_part_kind(nodes[source][0])]
        lines.append(
            f'<path d="M{middle},{y} C{control_x:.0f},{y} {control_x:.0f},{end_y} {middle},{end_y}" fill="none" '
            f'stroke="{stroke}" stroke-opacity="0.55"/>'
        )
    for name, (part, operator, shape) in nodes.items():
        y = 20 + ROW * row[name]
        fill = colour[find_part_kind(part)]
        lines.append(f'<circle cx="{middle}" cy="{y}" r="4" fill="{fill}"><title>{escape(name)}</title></circle>')
        for x, text, shade in ((12, operator, "#111"), (290, shape, "#666"), (400, part, "#666")):
            lines.append(f'<text x="{middle + x}" y="{y + 4}" fill="{shade}">{escape(text)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def find_part_kind(part: str) -> str:
    """Return the kind of a part: blocks.3.attention is of the kind attention."""
    return next((word for word in reversed(part.split(".")) if word and not word.isdigit()), part)
