"""A study as one file: opens by file://, asks no host for anything, tells all of it also without JavaScript.

plotly.js is inlined once; every figure is JSON beside its numbers as CSV. Text of users is escaped: by jinja2 in the
page, and inside JSON no `<` is left as it is.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gptlab.ablation import columns as tables
from gptlab.ablation import fairness, words
from gptlab.ablation.answer import answer
from gptlab.ablation.ledger import Ledger
from gptlab.ablation.outcome import Findings
from gptlab.ablation.view import Sentence, Strong, View, command, said, views
from gptlab.record import write
from gptlab.report import curves, figures
from gptlab.report.figures import Figure

COSTS = ("memory/peak_bytes", "cache_bytes_per_token", "params")


def save(findings: Findings, folder: Path) -> Path:
    """Writes report.html into a study's folder."""
    path = folder / "report.html"
    write(path, page(findings, Ledger(folder).pool))
    return path


def page(findings: Findings, pool: Path) -> str:
    """The whole page. `pool`: where the runs live."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("gptlab.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["sentence"] = sentence
    shown = views(findings)
    return environment.get_template("page.html.jinja").render(
        findings=findings,
        spent=fairness.spent(findings),
        parts=[part(view, findings, pool) for view in shown],
        question=question(findings),
        threats=[*map(said, [*fairness.rules(findings), *findings.notes]), *fairness.caveats(findings)],
        sizes=[fairness.scaled(one) for one in findings.scalings],
        unfinished=words.unfinished(findings),
        command=command(findings.asked),
        more=command(findings.asked, 2),
        plotly=Markup(get_plotlyjs()),
        embedded=embedded,
    )


def part(view: View, findings: Findings, pool: Path) -> dict[str, Any]:
    """All about one size."""
    runs, stratum = view.stratum.runs, view.stratum
    best = {tuning.arm: tuning.best for tuning in stratum.tunings}
    runs = [run for run in runs if run.lr == best.get(run.arm)]
    trained, scored = curves.logged(runs, pool, "train/loss"), curves.logged(runs, pool, "val/loss")
    unit = view.comparison.metric.unit
    drawn = {
        "results": [figures.forest(view)],
        "curves": [
            figures.curves("Training loss, mean over seeds with 95 % interval", unit, curves.means(trained), view),
            figures.curves("Validation loss on the way", unit, curves.means(scored), view),
            figures.curves(
                "Training loss less the baseline's, by seed", unit, curves.differences(trained, stratum.baseline), view
            ),
            figures.seeds(view),
        ],
        "tradeoffs": [
            figures.front(view, one) for one in [*stratum.timings, *(o for o in view.others if o.metric.key in COSTS)]
        ],
        "where": [figures.places(curves.by_position(runs, pool), view)],
    }
    return {
        "size": stratum.size,
        "answer": answer(view),
        "heading": tables.heading(view),
        "main": tables.main(view),
        "others": tables.others(view),
        "pairs": tables.pairs(view) if view.comparison.pairs else [],
        "rates": tables.tuning(view) if stratum.tunings else [],
        "shared": tables.shared(view),
        "verdicts": words.verdicts(view),
        "confirmed": words.confirmed(view, stratum.confirmed) if stratum.confirmed else [],
        "floor": fairness.floor(view),
        "fronts": fairness.fronts(view),
        "tuned": [words.tuned(view, one) for one in stratum.tunings],
        "texts": {view.names.get(arm, arm): one for arm, one in curves.texts(runs, pool).items()},
        "figures": {name: [one for one in some if one is not None] for name, some in drawn.items()},
    }


def question(findings: Findings) -> list[str]:
    """What was asked, and by which rule it is judged."""
    asked = findings.asked
    lines = [f"{axis}: {', '.join(map(str, values))}" for axis, values in asked.get("axes", {}).items()]
    lines += [f"every run: {' '.join(asked['base'])}"] if asked.get("base") else []
    return lines + [fairness.judged(view) for view in views(findings)[:1]]


def sentence(one: Sentence) -> Markup:
    """A sentence with its weights and its command."""
    parts = [
        Markup("<strong>{}</strong>").format(p) if isinstance(p, Strong) else Markup("{}").format(p) for p in one.parts
    ]
    tail = Markup("<pre>{}</pre>").format(one.command) if one.command else Markup("")
    return Markup("").join(parts) + tail


def embedded(figure: Figure) -> Markup:
    """A figure's JSON, which cannot end the script that holds it."""
    text = json.dumps({"data": figure.data, "layout": figure.layout}, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
