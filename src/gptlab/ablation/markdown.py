"""report.md: the whole study on a page, from its answer to its raw numbers. All text of users is escaped."""

import re
from collections.abc import Iterable

from gptlab.ablation import columns as tables
from gptlab.ablation import fairness, words
from gptlab.ablation.answer import answer
from gptlab.ablation.columns import Column
from gptlab.ablation.forest import legended, plotted
from gptlab.ablation.outcome import Findings, Run
from gptlab.ablation.view import Sentence, Strong, View, command, said, seeds, views

WIDTH = 60
"""Characters of the forest plot."""


def report(findings: Findings) -> str:
    """The page."""
    shown = views(findings)
    parts = [f"# {plain(findings.study)}", f"{fairness.spent(findings)}."]
    for view in shown:
        parts += _section(view, "Answer", _numbered(answer(view)))
    parts += _section(None, "Question and rule", _question(findings))
    parts += _section(None, "Setup", _facts(findings.runs))
    for view in shown:
        parts += _section(view, "Noise floor", _listed(map(said, fairness.floor(view))))
        parts += _section(view, "Results", *_results(view))
        parts += _section(view, "Trade-offs", *_tradeoffs(view))
        parts += _section(view, "Learning rates", *_rates(view))
    parts += _section(None, "Sizes", _listed(map(fairness.scaled, findings.scalings)))
    parts += _section(None, "What did not finish", _listed(words.unfinished(findings)))
    doubts = [*map(said, [*fairness.rules(findings), *findings.notes]), *fairness.caveats(findings)]
    parts += _section(None, "Threats", _listed(doubts))
    parts += _section(None, "To do it again", *_commands(findings))
    for view in shown:
        parts += _section(view, "Every seed", _seeds(view))
    parts.append("All numbers of every run: `results.csv`; all that was computed from them: `comparison.json`.")
    return "\n\n".join(filter(None, parts)) + "\n"


# -- sections


def _section(view: View | None, name: str, *parts: str) -> list[str]:
    """A heading and what is below it; nothing where that is empty."""
    size = f", {plain(view.stratum.size)}" if view and view.stratum.size else ""
    return [f"## {name}{size}", *parts] if any(parts) else []


def _question(findings: Findings) -> str:
    asked = findings.asked
    lines = [f"{axis}: {', '.join(map(str, values))}" for axis, values in asked.get("axes", {}).items()]
    lines += [f"every run: {' '.join(asked['base'])}"] if asked.get("base") else []
    lines += [f"design {asked['design']}"] if asked.get("design") else []
    lines += [f"seeds {', '.join(map(str, seeds(asked)))}"] if seeds(asked) else []
    lines += [f"{tables.heading(view)}. {fairness.judged(view)}" for view in views(findings)[:1]]
    return _listed(map(said, lines))


def _facts(runs: list[Run]) -> str:
    """Device, versions, text: what the runs say of themselves."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for key, fact in run.facts.items():
            found.setdefault(key, set()).add(fact)
    lines = {key: sorted(facts) for key, facts in found.items() if key != "hash"}
    return _listed(said(f"{key}: {', '.join(facts)}") for key, facts in lines.items())


def _results(view: View) -> list[str]:
    parts = [_table(tables.main(view)), _plot(view) if view.contrasts else "", _listed(words.verdicts(view))]
    parts += ["All pairs:", _table(tables.pairs(view))] if view.comparison.pairs else []
    if fresh := view.stratum.confirmed:
        parts += ["On fresh seeds alone:", _listed(words.confirmed(view, fresh))]
    return [*parts, _listed(map(said, view.notes))]


def _plot(view: View) -> str:
    plot, wide = plotted(view, WIDTH), max(map(len, view.names.values()))
    rows = [(view.names[arm], line) for arm, line in zip(view.order, plot.cells, strict=True)]
    return _block(
        "\n".join(f"{name:{wide}}  {line}" for name, line in [("", plot.head), *rows, ("", legended(view, plot))])
    )


def _tradeoffs(view: View) -> list[str]:
    marks = "✓ better, ✗ worse, = equivalent, ? not resolved, ! unstable." if tables.others(view) else ""
    told = [*map(said, filter(None, [tables.shared(view), *fairness.ladder(view)])), *fairness.fronts(view)]
    return [_table(tables.others(view)), marks, _listed(told)]


def _rates(view: View) -> list[str]:
    found = view.tunings
    return (
        [
            "Mean loss at each, a star for the best:",
            _table(tables.tuning(view)),
            _listed(words.tuned(view, one) for one in found),
        ]
        if found
        else []
    )


def _commands(findings: Findings) -> list[str]:
    again = command(findings.asked)
    if not again:
        return []
    more = command(findings.asked, 2)
    return [
        "Again, or the rest of it:",
        _block(again),
        "With two more seeds; what is done is used again:",
        _block(more),
    ]


def _seeds(view: View) -> str:
    """The metric that decides, an arm a row, a seed a column."""
    best = {one.arm: one.best for one in view.tunings}
    runs = [run for run in view.stratum.runs if run.role == "arm" and run.lr == best.get(run.arm, run.lr)]
    found = {(run.arm, run.seed): run for run in runs}
    every = sorted({run.seed for run in runs})
    columns = [Column(view.axis or "arm", [view.names[arm] for arm in view.order], left=True)]
    for seed in every:
        columns.append(Column(f"seed {seed}", [_value(view, found.get((arm, seed))) for arm in view.order]))
    return _table(columns)


def _value(view: View, run: Run | None) -> str:
    number = run.values.get(view.comparison.metric.key) if run and run.status == "finished" else None
    return f"{number:.4f}" if number is not None else run.status if run else ""


# -- Markdown


def plain(text: str) -> str:
    """Text that means nothing to Markdown, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


def _sentence(sentence: Sentence, deep: int) -> str:
    """A sentence of a list; its command is a block of the same item, whose text stands so deep."""
    marked = (f"**{plain(part)}**" if isinstance(part, Strong) else _kept(part) for part in sentence.parts)
    return "".join(marked) + (f"\n\n{_block(sentence.command, ' ' * (deep + 4))}" if sentence.command else "")


def _kept(part: str) -> str:
    """A part of a sentence with its outer blanks."""
    inner = part.strip()
    before, _, after = part.partition(inner) if inner else (part, "", "")
    return f"{before}{plain(inner)}{after}"


def _listed(sentences: Iterable[Sentence]) -> str:
    return "\n".join(f"- {_sentence(one, 2)}" for one in sentences)


def _numbered(sentences: list[Sentence]) -> str:
    return "\n".join(f"{number}. {_sentence(one, 3)}" for number, one in enumerate(sentences, 1))


def _block(text: str, indent: str = "    ") -> str:
    """Lines as they are."""
    return "\n".join(f"{indent}{line}".rstrip() for line in text.splitlines())


def _table(columns: list[Column]) -> str:
    if not columns:
        return ""
    heads = [plain(one.head) for one in columns]
    rules = [":--" if one.left else "--:" for one in columns]
    rows = [[plain(cell) for cell in row] for row in zip(*(one.cells for one in columns), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rules, *rows))
