"""A report as one HTML file: it opens by file://, loads nothing from any host, and is complete without JavaScript.

plotly.js is inlined once; every figure is JSON beside its numbers as CSV. Text of users is escaped: by jinja2 in the
page, and inside JSON no `<` is left as it is.
"""

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from gptlab.report.model import Figure, Report, round_floats
from gptlab.report.text.markup import Sentence, Strong
from gptlab.runs.record import write_atomically

PAGE_NAME = "report.html"


def save_page(report: Report, folder: Path) -> None:
    """Write the page into a study's or a run's folder."""
    write_atomically(folder / PAGE_NAME, render_page(report))


def render_page(report: Report) -> str:
    """Return the whole page; plotly.js is in it only where there is a figure."""
    from plotly.offline import get_plotlyjs  # 5 MB of JavaScript: only when a page is made

    plotly = Markup(get_plotlyjs()) if report.has_figures else None
    return load_template("page.html.jinja").render(report=report, plotly=plotly)


def load_template(name: str) -> Template:
    """Return a template of this folder, which escapes all that it prints."""
    environment = Environment(
        loader=PackageLoader("gptlab.report.render", "."),
        # names of arms and texts of models are anybody's: none of them may be markup
        autoescape=True,
        # a misspelt name would otherwise be an empty place on the page
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"render_sentence": render_sentence, "embed_figure": embed_figure}
    return environment.get_template(name)


def render_sentence(sentence: Sentence | str) -> Markup:
    """Return a sentence with its bold parts, and its command as a block."""
    if isinstance(sentence, str):
        return Markup("{}").format(sentence)
    html = Markup("")
    for part in sentence.parts:
        html += Markup("<strong>{}</strong>" if isinstance(part, Strong) else "{}").format(part)
    return html + Markup("<pre>{}</pre>").format(sentence.command) if sentence.command else html


def embed_figure(figure: Figure) -> Markup:
    """Return a figure's JSON, which cannot end the script that holds it."""
    text = json.dumps(round_floats({"data": figure.data, "layout": figure.layout}), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
