"""A look, what it spends and what the next one can do are said wherever a verdict is."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from findings import comparison, findings
from PIL import ImageDraw
from rich.console import Console

from gptlab.report.card import render_card
from gptlab.report.publish import build_summary_numbers
from gptlab.report.render import html, latex, markdown, wandb_report
from gptlab.report.render.answer import answer_with_findings
from gptlab.report.render.card_image import save_card_image
from gptlab.report.render.files import build_document
from gptlab.report.render.terminal import print_study
from gptlab.report.study import build_study_report
from gptlab.report.text.sentences import describe_verdicts
from gptlab.report.text.summary import summarize_view
from gptlab.report.text.view import make_views
from gptlab.stats.results import Findings
from gptlab.stats.spending import LookPlan

LOOKS = (3, 5, 8)


def study(seeds: int = 3, **changes: Any) -> Findings:
    """A study at a look: one arm better, one not resolved; `changes` of all contrasts."""
    at = comparison(gqa=(-0.0182, 0.0071, "better"), linear=(0.0043, 0.0101, "not resolved"))
    looked = {"more_seeds": None, "more_minutes": None, "level": 0.025, **changes}
    contrasts = [replace(contrast, **looked) for contrast in at.contrasts]
    at = replace(at, contrasts=contrasts, look=LookPlan(LOOKS).describe(seeds, 2))
    made = findings(comparisons=[at])
    plan = replace(made.plan, looks=[*LOOKS], seeds=[*range(seeds)], command=["ablate.py", "attention=mha,gqa,linear"])
    return replace(made, plan=plan)


def shown(made: Findings) -> str:
    console = Console(width=100, file=io.StringIO(), highlight=False)
    print_study(made, console)
    return " ".join(cast(io.StringIO, console.file).getvalue().split())


def page(made: Findings) -> str:
    return " ".join(markdown.render_markdown(build_study_report(made)).split())


def sentence(made: Findings, arm: str) -> Any:
    (view,) = make_views(made)
    return next(one for one in describe_verdicts(view) if str(one).startswith(arm))


def test_the_terminal_and_the_page_say_which_look_it_is_and_what_is_spent():
    for text in (shown(study()), page(study())):
        assert "look 1 of 3, alpha .025 of .05 spent" in text
    assert "alpha .036 of .05 spent" in shown(study(5))
    assert "between looks 1 and 2 of 3, alpha .031 of .05 spent" in shown(study(4))
    assert "Looks at 3, 5 and 8 seeds; alpha .05 is spent over them (Pocock-like, Lan-DeMets)." in page(study())
    assert "by Holm over 2 against .025" in shown(study())


def test_what_is_not_resolved_names_the_next_planned_look_and_its_command():
    told = sentence(study(next_look=5, chance=0.31, chance_at_last=0.62, more_seeds=2), "linear")
    assert str(told).endswith(
        "The next look, at 5 seeds, resolves it in 31 % of cases, and the last one, at 8, in 62 %:"
    )
    assert told.command == "ablate.py attention=mha,gqa,linear seeds=5"


def test_a_p_below_alpha_that_the_look_leaves_unresolved_is_named_beside_its_level():
    assert "p = 0.03 by Holm over 2 against .025" in str(sentence(study(p_holm=0.03), "linear"))
    assert " p " not in str(sentence(study(p_holm=0.06), "linear"))


def test_what_would_change_it_says_how_likely_the_next_look_is_to():
    (view,) = make_views(study(next_look=5, chance=0.0, chance_at_last=0.62, more_seeds=2))
    steps = str(summarize_view(view)[-1])
    assert "2 more seeds for linear (which decides in 0 % of cases; the last look, at 8 seeds, in 62 %)" in steps
    (view,) = make_views(study(5, next_look=8, chance=0.62, chance_at_last=0.62, more_seeds=3))
    assert "3 more seeds for linear (which decides in 62 % of cases)" in str(summarize_view(view)[-1])


def test_a_plan_that_cannot_resolve_it_says_so_and_names_no_command():
    hopeless = sentence(study(next_look=5, chance=0.01, chance_at_last=0.04), "linear")
    assert "The plan of looks cannot resolve it: its last look, at 8 seeds, would in 4 % of cases." in str(hopeless)
    ended = sentence(study(8), "linear")
    assert str(ended).endswith(
        "The plan of looks is at its end and cannot resolve it; more seeds would be exploratory."
    )
    assert not hopeless.command
    assert not ended.command


def test_more_seeds_than_planned_are_marked_everywhere():
    made = study(10, exploratory=True)
    assert "after look 3 of 3, with more than the 8 planned seeds: exploratory" in shown(made)
    assert "linear not resolved. Exploratory: more seeds than planned." in shown(made)
    assert "better (exploratory)" in shown(made)
    assert "better (exploratory)" in page(made)
    assert "better (exploratory)" in latex.render_table(made)
    assert str(sentence(made, "gqa")).endswith("Exploratory: more seeds than planned.")
    assert build_summary_numbers(made)["verdict/attention=gqa"] == "better (exploratory)"
    assert [one["exploratory"] for one in answer_with_findings(made)["verdicts"]] == [True, True]


def render_all_forms(made: Findings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The words of every form in which a verdict leaves the study."""
    report = build_study_report(made)
    written: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **more: written.append(text))
    save_card_image(made, folder / "report.png")
    spec = wandb_report.extract_spec(wandb_report.build_wandb_report(report, "project", "entity", "group"))
    return {
        "terminal": shown(made),
        "Markdown": page(made),
        "page": html.render_page(report).rpartition("</script>")[0].partition("<body")[2],
        "LaTeX": " ".join(latex.render_table(made).split()),
        "card": " ".join(render_card(report).split()),
        "picture": " ".join(written),
        "W&B Report": json.dumps(spec, ensure_ascii=False),
    }


def test_every_form_of_a_report_says_the_look_and_marks_what_is_exploratory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("wandb_workspaces")
    for name, text in render_all_forms(study(), tmp_path, monkeypatch).items():
        assert "look 1 of 3, alpha .025 of .05 spent" in text, name
        assert "(exploratory)" not in text, name
    made = study(10, exploratory=True)
    for name, text in render_all_forms(made, tmp_path, monkeypatch).items():
        assert "after look 3 of 3, with more than the 8 planned seeds: exploratory" in text, name
        assert "better (exploratory)" in text, name
        assert "not resolved (exploratory)" in text, name
    (stratum,) = build_document(made)["strata"]
    assert stratum["comparisons"][0]["look"]["place"] == "after"
    assert {contrast["exploratory"] for contrast in stratum["comparisons"][0]["contrasts"]} == {True}


def test_the_page_has_each_arms_own_sd_beside_the_one_used():
    text = page(study())
    assert "Each arm's own SD beside the one that it is judged by" in text
    assert "SD used" in text


def test_the_page_names_the_command_of_the_next_look():
    assert "Up to the next look, at 5 seeds; what is done is used again:" in page(study())
    assert "which the plan of looks does not have: its verdicts are exploratory" in page(study(8))
