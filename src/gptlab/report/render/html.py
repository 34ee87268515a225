"""A report as one file: opens by file://, asks no host for anything, tells all of it also without JavaScript.

plotly.js is inlined once; every figure is JSON beside its numbers as CSV. Text of users is escaped: by jinja2 in the
page, and inside JSON no `<` is left as it is.
"""

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gptlab.report.model import Figure, Report, shortened
from gptlab.report.text.view import Sentence, Strong
from gptlab.runs.record import write_atomically

NAME = "report.html"


def save(report: Report, folder: Path) -> None:
    """Writes it into a study's or a run's folder."""
    write_atomically(folder / NAME, page(report))


def page(report: Report) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    plotly = Markup(get_plotlyjs()) if report.drawn else None
    return template("page.html.jinja").render(report=report, plotly=plotly)


def template(name: str):
    """A page's form."""
    environment = Environment(
        loader=PackageLoader("gptlab.report.render", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sentence": sentence, "embedded": embedded}
    return environment.get_template(name)


def sentence(one: Sentence | str) -> Markup:
    """A sentence with its weights and its command."""
    if isinstance(one, str):
        return Markup("{}").format(one)
    parts = [
        Markup("<strong>{}</strong>").format(p) if isinstance(p, Strong) else Markup("{}").format(p) for p in one.parts
    ]
    tail = Markup("<pre>{}</pre>").format(one.command) if one.command else Markup("")
    return Markup("").join(parts) + tail


def embedded(figure: Figure) -> Markup:
    """A figure's JSON, which cannot end the script that holds it."""
    text = json.dumps(shortened({"data": figure.data, "layout": figure.layout}), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
