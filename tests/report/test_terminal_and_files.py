"""What a study shows: on a terminal of any width, in sentences, in files."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from findings import BASE, BROKEN, FRONT, FULL, ROWS, RUNS, comparison, contrast, counted, findings
from rich.cells import cell_len
from rich.console import Console

from gptlab.report.figures.study import draw_forest_plot
from gptlab.report.render import files, latex, markdown
from gptlab.report.render.comparison_keys import DOCUMENT, STRATUM
from gptlab.report.render.terminal import print_study
from gptlab.report.study import build_study_report
from gptlab.report.text import caveats
from gptlab.report.text.forest_plot import ForestPlot, fit_forest_plot
from gptlab.report.text.markup import Sentence, Strong, bold, escape, give_commands_once, parse_sentence
from gptlab.report.text.numbers import MINUS, choose_decimals, format_signed
from gptlab.report.text.sentences import describe_unfinished_runs, describe_unstable_arm, describe_verdicts
from gptlab.report.text.summary import find_leaders, summarize_view
from gptlab.report.text.view import View, build_command, make_views
from gptlab.runs.record import to_json
from gptlab.stats.labels import label_arm
from gptlab.stats.results import (
    METRICS,
    Arm,
    Findings,
    Noise,
    Run,
    Scaling,
    Tuning,
)
from gptlab.stats.study_plan import Adjustment, StudyPlan

# -- the terminal


def shown(study: Findings, width: int = 100) -> str:
    """What a terminal of this width shows."""
    console = Console(width=width, file=io.StringIO(), highlight=False)
    print_study(study, console)
    return cast(io.StringIO, console.file).getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_table_holds_every_arm_and_fits(width: int):
    text = shown(FULL, width)
    head = text.partition("  verdicts\n")[0]
    for arm in (BASE, *ROWS, BROKEN):
        assert re.search(rf"^  {re.escape(arm.partition('=')[2])} ", head, re.M), arm
    for verdict in ("baseline", "better", "equivalent", "not resolved", "worse", "unstable", "failed"):
        assert f" {verdict}" in head
    commands = [one.command for one in describe_verdicts(make_views(FULL)[0])]  # stay whole, to be copied
    long = [line for line in text.splitlines() if cell_len(line) > width and line.strip() not in commands]
    assert not long


def test_arms_stand_by_difference_below_the_baseline_and_empty_columns_go():
    lines = shown(findings(), 140).splitlines()
    head = next(line for line in lines if "95 % interval" in line)
    order = [line.split()[0] for line in lines[lines.index(head) + 1 :][:7]]
    assert order == ["mha", "gqa", "mla", "linear", "swa", "hybrid", "glob_*_|_&"]
    assert "worth" not in head
    assert "p (Holm)" in head


def test_names_of_several_axes_say_what_differs():
    values = [(("a", a), ("b", b)) for a, b in ("11", "21", "22")]
    arms = [Arm(label_arm(pairs), 3, 0, 0, 2.4, 0.01) for pairs in values]
    plan = replace(FULL.plan, arm_values={label_arm(pairs): pairs for pairs in values})
    view = View(plan, FULL.strata[0], replace(comparison(), baseline="a=1 b=1", arms=arms, contrasts=[]))
    assert list(view.names.values()) == ["baseline", "a=2", "a=2 b=2"]


def test_sentences_that_end_in_the_same_command_give_it_once():
    texts = [("gqa, at 5 seeds:", "a"), ("swa beats mha.", ""), ("mla, at 5 seeds:", "a"), ("moba, at 8 seeds:", "b")]
    shown = give_commands_once(Sentence((text,), command) for text, command in texts)
    assert [sentence.command for sentence in shown] == ["a", "", "", "b"]
    assert str(shown[2]) == "mla, at 5 seeds, by the same command."


def test_markup_in_names_is_text():
    stratum = replace(findings().strata[0], size="[bold]nano[/]")
    assert "[bold]nano[/]" in shown(replace(findings(), strata=[stratum], notes=["[red]a note[/]"]))


def test_what_is_asked_for_besides_has_its_place():
    tunings = [Tuning("attention=gqa", {1e-3: 2.5, 3e-3: None, 1e-2: 2.394}, 1e-2, True, 0.053)]
    fresh = replace(comparison(gqa=(-0.02, 0.005, "better")), noise=None)
    one = replace(comparison(), pairs=comparison().contrasts[:2])
    scaling = Scaling("gqa", "params", [(1e5, 2.5), (2e5, 2.4), (4e5, 2.3)], -0.14427, -0.17, -0.12)
    text = shown(replace(findings(comparisons=[one], tunings=tunings, confirmed=fresh), scalings=[scaling]))
    for told in ("gqa less mha", "diverged", "2.394*", "upper bound", "on fresh seeds alone", "gains 0.100 nats/token"):
        assert told in text, told


def test_an_arm_alone_has_its_spread():
    alone = replace(comparison(), arms=comparison().arms[:1], contrasts=[], noise=None)
    text = shown(findings(comparisons=[alone]))
    assert "against mha, 3 seeds" in text
    assert "Seeds alone move the loss by 0.012 nats/token (SD)." in text
    assert "░" not in text + markdown.render_markdown(build_study_report(findings(comparisons=[alone])))


def test_what_was_done_to_match_is_told():
    settled = {BASE: [], "attention=gqa": [Adjustment("mlp.hidden", 352, "mlp.hidden=352")]}
    plan = replace(FULL.plan, match="params", settled=settled)
    text = shown(replace(FULL, plan=plan, mismatch=["parameters against mha: attention=gqa +0.2%"]))
    for told in ("same number of parameters", "attention=gqa: mlp.hidden=352", "attention=gqa +0.2%"):
        assert told in text


def test_nothing_finished_is_said():
    text = shown(findings(comparisons=[]))
    assert "no run finished" in text
    assert "OutOfMemoryError: 12 GiB | asked" in text
    assert "outputs/runs/x/log.txt" in text


def test_seeds_of_one_fate_are_told_together():
    lost = [replace(RUNS[-1], seed=seed) for seed in (2, 1)] + [Run(BASE, 0, "diverged", role="budget", budget=0.5)]
    first, second = map(str, describe_unfinished_runs(replace(FULL, runs=lost)))
    assert first.startswith(f"{BROKEN}: failed, seeds 1, 2 (OutOfMemoryError")
    assert second == f"{BASE} 0.5x: diverged, seed 0"


# -- the plot


def test_marks_stand_where_the_numbers_are():
    plot = ForestPlot(-1.0, 1.0, 41, 0.1)  # a character is 0.05
    line = plot.draw_row(0.5, 0.25, 0.75)
    assert {mark: line.index(mark) for mark in "│├●┤"} == {"│": 20, "├": 25, "●": 30, "┤": 35}
    assert [place for place, mark in enumerate(line) if mark == "░"] == [18, 19, 21, 22]
    assert plot.draw_row(-0.1, -0.3, 0.1)[14:23] == "├───●─┼─┤"
    assert plot.draw_row(0.9, 0.5, 1.5)[-11:] == "├───────●─▶"
    assert plot.draw_row(-3.0, -4.0, -2.0)[0] == "◀"
    assert plot.draw_row() == " " * 18 + "░░│░░" + " " * 18
    assert plot.draw_scale() == f"{MINUS}1.00{' ' * 15}0{' ' * 15}+1.00"


def test_one_wide_interval_does_not_squeeze_the_others():
    assert fit_forest_plot([(-0.02, 0.01), (-0.01, 0.02), (1.0, 9.0)], 0.01, 40).high == pytest.approx(0.08)
    assert fit_forest_plot([(0.01, 0.02)], 0.005, 40) == ForestPlot(-0.005, 0.02, 40, 0.005)


# -- words


def test_a_template_spells_its_parts():
    sentence = parse_sentence("**mha** beats **gqa** by 2 * 3.", "again")
    assert sentence == Sentence(("mha", " beats ", "gqa", " by 2 * 3."), "again")
    assert [isinstance(part, Strong) for part in sentence.parts] == [True, False, True, False]


@pytest.mark.parametrize("name", ["glob_*_|_&", "**", "a**b**c", "*", "\\", "a\\*", "\\**", "x*", "*x"])
def test_any_name_stays_itself_in_a_template(name: str):
    sentence = parse_sentence(f"{escape(name)} and {bold(name)}{escape(name)}.")
    assert sentence.parts == (f"{name} and ", name, f"{name}.")
    assert isinstance(sentence.parts[1], Strong)


def sentences(study: Findings) -> list[str]:
    """The verdicts in words, with a plain minus."""
    return [str(one).replace(MINUS, "-") for one in describe_verdicts(make_views(study)[0])]


def test_each_verdict_has_its_sentence():
    gqa, mla, linear, swa, hybrid, broken = sentences(FULL)
    assert gqa.startswith(
        "gqa beats mha by 0.018 nats/token (95 % interval 0.011 to 0.025; 3 paired seeds; pooled variance; "
        "p <0.001 by Holm over 5, <0.001 with its own variance)."
    )
    assert "gqa is 3.1 % slower a step (A/A spread 0.6 %), and takes" in gqa
    assert "75 % less cache and 11.5 % fewer parameters" in gqa
    assert "need 1.09 times the compute (1.05 to 1.13)." in gqa
    assert "Net of speed it is 0.012 nats/token better (0.004 to 0.019). Verdict: worth it" in gqa
    assert mla.startswith("mla and mha are equivalent within 0.012 nats/token (90 % interval -0.004 to 0.007;")
    assert "No difference beyond 0.007." in mla
    assert linear.startswith("linear less mha: +0.004 nats/token (95 % interval")
    assert "not resolved. No difference beyond 0.013. The smallest effect that 3 seeds can see here is 0.012." in linear
    assert linear.endswith("About 9 more seeds (6 min) would resolve it:")
    assert swa.startswith("swa is worse than mha by 0.021 nats/token (95 % interval 0.014 to 0.028;")
    assert "swa is 6.9 % faster a step" in swa
    assert "open whether it is worth it" in swa
    assert hybrid.startswith("hybrid diverged in 1 of 3 seeds;")
    assert hybrid.endswith("unstable at the shared learning rate.")
    assert broken == "glob_*_|_&: no verdict; 3 of its runs failed."
    assert "significant" not in shown(FULL)


def test_an_unstable_arm_is_told_by_the_rates_at_which_it_ran():
    unstable = comparison(hybrid=(0.04, 0.03, "unstable"))
    study = findings(comparisons=[unstable], confirmed=replace(unstable))
    for tune, ladder, everywhere, on_fresh_seeds in (
        ("shared", [], " at the shared learning rate", " at the shared learning rate"),
        ("grid", [], " at every learning rate of the grid", " at its best learning rate"),
        ("transfer", [""], " at every learning rate of the grid", " at its best learning rate"),
        ("transfer", ["nano", ""], " at the learning rate that was carried to it", " at its best learning rate"),
        ("", [], "", ""),  # lone runs, of which no plan says how their rates were chosen
    ):
        (view,) = make_views(replace(study, plan=replace(study.plan, tune=tune, ladder=ladder)))
        fresh = view.stratum.confirmed
        assert fresh is not None
        for judged, rate in ((view.comparison, everywhere), (fresh, on_fresh_seeds)):
            line = str(describe_unstable_arm(view, judged, "attention=hybrid"))
            assert line.endswith(f"Verdict: unstable{rate}.")


def test_of_two_that_are_equal_the_cheaper_one_is_taken():
    close = comparison(mla=(0.001, 0.004, "equivalent"))
    for params, taken in ((200_000, "mla"), (216_000, "mha")):
        study = findings(comparisons=[close, counted("params", 212_480, mla=params)])
        assert f"Verdict: take {taken}, the cheaper one." in sentences(study)[0]
    same = findings(comparisons=[comparison(gqa=(0.0, 0.0, "equivalent"))])
    assert sentences(same) == ["gqa and mha are equivalent within 0.012 nats/token (no difference at all)."]


def test_one_seed_is_no_verdict():
    rows = comparison(gqa=(-0.3, 0, "no verdict"), swa=(-0.1, 0, "no verdict"))
    one = findings(comparisons=[replace(rows, variance="none", noise=None)])
    text = shown(one)
    assert "gqa less mha: -0.300 nats/token, from one seed: no verdict." in text.replace(MINUS, "-")
    assert "in 67 % of studies" in " ".join(text.split())
    assert "seeds=5" in text
    assert "95 % interval" not in text


@pytest.mark.parametrize(
    ("half", "told"),
    [(0.0071, "+0.012"), (0.0121, "+0.012"), (0.000_71, "+0.0123"), (0.071, "+0.01"), (0.71, "0.0"), (21.0, "0")],
)
def test_digits_follow_the_interval(half: float, told: str):
    assert (
        format_signed(0.0123, choose_decimals(contrast("attention=gqa", 0.0123, half, "not resolved"), 0.012)) == told
    )


@pytest.mark.parametrize(
    ("said", "seeds", "more", "told"),
    [
        (["ablate.py", "a=b,c"], [0, 1, 2], 9, "ablate.py a=b,c seeds=12"),
        (["ablate.py", "seeds=3", "a=b,c"], [0, 1, 2], 2, "ablate.py a=b,c seeds=5"),
        (["ablate.py", "++seeds=[4,7]", "a=glob(*)"], [4, 7], 2, "ablate.py 'a=glob(*)' 'seeds=[4,7,8,9]'"),
        (["ablate.py", "a=b"], [0, 1], 0, "ablate.py a=b"),
        ([], [0, 1], 3, ""),
    ],
)
def test_the_command_is_the_studys_own_with_more_seeds(said: list[str], seeds: list[int], more: int, told: str):
    assert build_command(StudyPlan(study="x", command=said, seeds=seeds), more) == told


def test_noise_and_pairing_are_told_as_measured():
    view = make_views(FULL)[0]
    assert "A doubling is worth 0.146 nats/token (standard error 0.007)." in caveats.describe_budgets(view)[0]
    assert (
        "pairing by seed cut the variance of a difference 3.1-fold (correlation +0.68)"
        in caveats.describe_noise(view)[0]
    )
    assert caveats.describe_noise(view)[2] == "The baseline run twice differs from itself by exactly 0."
    noise = Noise(0.01, 0.014, -0.02, 0.98, 0.02, 0.0003)
    told = caveats.describe_noise(replace(view, comparison=replace(view.comparison, noise=noise)))
    assert "pairing by seed gained nothing" in told[0]
    assert "up to 0.0003" in told[2]


def test_costs_of_one_outcome_share_a_front():
    other = replace(FRONT, cost=METRICS[4])
    view = make_views(findings(comparisons=[comparison()], fronts=[FRONT, other]))[0]
    assert [*map(str, caveats.describe_fronts(view))] == [
        "Pareto front of loss and cache, peak memory: gqa; gqa dominates mha, swa."
    ]
    lone = comparison(gqa=(-0.3, 0, "no verdict"))
    assert not caveats.describe_fronts(
        make_views(findings(comparisons=[lone], fronts=[FRONT]))[0]
    )  # no interval to be beaten beyond


def test_ties_are_ties():
    tied = comparison(gqa=(-0.02, 0.007, "better"), mla=(-0.019, 0.007, "better"), swa=(-0.005, 0.004, "better"))
    view = make_views(findings(comparisons=[tied]))[0]
    assert [one.arm for one in find_leaders(view)] == ["attention=gqa", "attention=mla"]
    assert "which of these is ahead is not shown" in str(summarize_view(view)[1])
    pair = replace(contrast("attention=gqa", -0.001, 0.0005, "better"), against="attention=mla")
    view = make_views(findings(comparisons=[replace(tied, pairs=[pair])]))[0]
    assert "attention=mla" not in [one.arm for one in find_leaders(view)]


def test_the_axis_of_differences_names_the_metric_and_the_baseline():
    figure = draw_forest_plot(make_views(FULL)[0])
    assert figure is not None
    assert figure.layout["xaxis"]["title"]["text"] == "Difference in loss from mha (nats/token)"


# -- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's files."""
    made = tmp_path_factory.mktemp("study")
    files.write_files(FULL, made)
    (made / "report.md").write_text(markdown.render_markdown(build_study_report(FULL)))
    return made


def test_json_is_strict_and_its_keys_are_those_declared(folder: Path):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    made = json.loads((folder / "comparison.json").read_text(), parse_constant=refuse)
    assert {*made} == {*DOCUMENT.keys}
    assert {*made["strata"][0]} == {*STRATUM.keys}
    assert made["version"] == files.VERSION
    assert made["strata"][0]["comparisons"][0]["contrasts"][0]["difference"] == ROWS["attention=gqa"][0]
    assert made["strata"][0]["exchange"]["budgets"]["0.5"] == 2.561
    assert len(made["runs"]) == len(RUNS)
    assert "NaN" not in dump_of(replace(RUNS[0], values={"val/loss": math.nan}))


def dump_of(run: Run) -> str:
    """comparison.json of a study of one run."""
    return to_json(files.build_document(replace(FULL, runs=[run])))


def test_csv_gives_every_number_back(folder: Path):
    rows = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text(), newline="")))
    assert [row["arm"] for row in rows] == [run.arm for run in RUNS]
    assert [float(row["val/loss"]) for row in rows[:-1]] == [run.values["val/loss"] for run in RUNS[:-1]]
    assert (rows[-1]["val/loss"], rows[-1]["reason"]) == ("", RUNS[-1].reason)
    assert list(rows[0])[:8] == [*files.FIRST, "val/loss"]


def test_latex_and_markdown_escape_names(folder: Path):
    tex, page = (folder / "table.tex").read_text(), (folder / "report.md").read_text()
    assert r"glob\_*\_\textbar{}\_\& &" in tex
    assert latex.escape_latex("50% of {a}\\b") == r"50\% of \{a\}\textbackslash{}b"
    body = tex.partition("\\midrule\n")[2].partition("    \\bottomrule")[0].splitlines()
    assert {line.count(" & ") for line in body} == {8}
    assert r"| glob\_\*\_\|\_\& |" in page
    tables = re.findall(r"(?:^\|.*\n)+", page, re.M)
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in one.splitlines()}) == 1 for one in tables)


def test_the_report_answers_first_and_ends_in_commands(folder: Path):
    page = (folder / "report.md").read_text()
    heads = re.findall(r"^## (.*)$", page, re.M)
    assert heads[:5] == ["Answer", "Question and rule", "Setup", "Noise floor", "Results"]
    assert len(re.findall(r"^\d\. ", page.partition("## Question")[0], re.M)) == 5
    assert "    python ablate.py -m attention=mha,gqa seeds=3 'data.path=my text.txt'\n" in page
    assert "| mha | 2.4000 | 2.4100 | 2.4200 |" in page
