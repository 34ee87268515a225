"""Laws of a study's card: one page, with the answer, the verdicts and the command, and no more of the setup."""

import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from findings import BASE, PLAN, findings
from PIL import ImageDraw
from tiny_runs import program

from gptlab.errors import Refused
from gptlab.report.card import render_card
from gptlab.report.publish import write_pages
from gptlab.report.render import card_image
from gptlab.report.render.card_image import save_card_image
from gptlab.report.study import build_study_report
from gptlab.report.text.columns import describe_main_table
from gptlab.report.text.view import MAX_TITLE, make_views, title_study
from gptlab.stats.results import Findings, Stratum


def test_a_card_is_a_page_with_the_answer_the_verdicts_and_the_command():
    page = render_card(build_study_report(findings()))
    assert page.startswith("# attention-1a2b3c\n")
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert headings[0].startswith("Answer")
    assert {"Results", "Threats", "To do it again"} <= {*headings}
    assert not {"Every seed", "Trade-offs", "Noise floor"} & {*headings}
    assert page.count("| better |") == 1
    assert "    python ablate.py -m attention=mha,gqa seeds=3 'data.path=my text.txt'\n" in page
    assert len(page.splitlines()) < 100


def test_what_is_no_study_is_refused(tmp_path: Path):
    done = program("-m gptlab", "card", str(tmp_path))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.endswith("is no study: it holds no study.json; studies live in outputs/ablations\n")


# -- as a picture


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its head."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", head[16:])


def test_the_picture_grows_with_the_arms_and_is_the_same_each_time(tmp_path: Path):
    whole, again, none = (tmp_path / f"{name}.png" for name in ("whole", "again", "none"))
    save_card_image(findings(), whole)
    save_card_image(findings(), again)
    (comparison,) = findings().strata[0].comparisons
    alone = replace(comparison, arms=[arm for arm in comparison.arms if arm.arm == BASE], contrasts=[])
    save_card_image(findings(comparisons=[alone]), none)
    assert whole.read_bytes() == again.read_bytes()
    assert read_size(whole)[0] == read_size(none)[0] == 1200
    assert read_size(whole)[1] > read_size(none)[1]


def draw_texts(study: Findings, monkeypatch: pytest.MonkeyPatch, path: Path) -> list[str]:
    """Draw a picture, and return the texts that stand on it."""
    texts: list[str] = []
    draw = ImageDraw.ImageDraw.text

    def record(self: ImageDraw.ImageDraw, place: tuple[float, float], text: str, **more: Any) -> None:
        texts.append(text)
        draw(self, place, text, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    save_card_image(study, path)
    return texts


def test_the_picture_says_the_question_the_rule_and_each_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = draw_texts(findings(), monkeypatch, tmp_path / "card.png")
    (view,) = make_views(findings())
    assert texts[0] == title_study(PLAN)
    assert texts[1] == describe_main_table(view)
    for arm in view.order:
        assert view.names[arm] in texts
        assert any(text.endswith(view.label_verdict(arm)) for text in texts)
    assert "Difference in loss from mha (nats/token), 95 % intervals; shaded: too small to matter" in texts


@pytest.mark.parametrize("fonts", [card_image.FONTS, ()])
def test_every_name_is_written_by_a_font_that_has_it_or_as_its_escape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fonts: tuple[str, ...]
):
    plan = replace(PLAN, study="größer than $\\frac{$ and <b>\nβ")
    monkeypatch.setattr(card_image, "FONTS", fonts)
    title = draw_texts(replace(findings(), plan=plan), monkeypatch, tmp_path / "card.png")[0]
    written = "größer than $\\frac{$ and <b> β"
    escaped = "gr\\xf6\\xdfer than $\\frac{$ and <b> \\u03b2"
    assert title in ((written, escaped) if fonts else (escaped,))
    assert read_size(tmp_path / "card.png")[0] == 1200


def test_numbers_that_are_none_leave_the_picture_whole(tmp_path: Path):
    (comparison,) = findings().strata[0].comparisons
    lost = [replace(contrast, difference=float("nan"), low=-math.inf) for contrast in comparison.contrasts]
    save_card_image(findings(comparisons=[replace(comparison, contrasts=lost, delta=0.0)]), tmp_path / "card.png")
    assert read_size(tmp_path / "card.png")[0] == 1200


def test_a_study_without_a_finished_run_has_no_picture(tmp_path: Path):
    empty = Findings(PLAN, [Stratum("", BASE, [], [], [])], [], [])
    with pytest.raises(Refused, match="no run that finished"):
        save_card_image(empty, tmp_path / "card.png")
    write_pages(empty, tmp_path, None)
    assert (tmp_path / "report.html").exists()
    assert not (tmp_path / "report.png").exists()


# -- the title of a study


@pytest.mark.parametrize(
    ("axes", "title"),
    [
        ({"attention": ["mha", "gqa"]}, "attention: mha, gqa (1a2b3c)"),
        ({"norm": ["a", "b"], "mlp": ["c", "d"]}, "norm: a, b; mlp: c, d (1a2b3c)"),
        (
            {"attention": [f"choice_{number}" for number in range(20)], "norm": ["rmsnorm", "dyt"]},
            "attention: choice_0, choice_1, choice_2, choice_3, choice_4 and 15 more; norm: rmsnorm, dyt (1a2b3c)",
        ),
        (
            {f"axis_number_{number}": ["a_long_value", "another"] for number in range(9)},
            "9 axes: axis_number_0, axis_number_1, axis_number_2, axis_number_3, axis_number_4 and 4 more (1a2b3c)",
        ),
    ],
)
def test_a_title_is_the_question_and_is_cut_between_values(axes: dict[str, list[str]], title: str):
    assert title_study(replace(PLAN, axes=axes)) == title
    assert len(title) <= MAX_TITLE + len(" (1a2b3c)") < 128


def test_a_title_of_named_arms_has_their_names_and_a_given_name_stays():
    arms = {"plain": [], "gated": ["attention.gate=true"]}
    assert title_study(replace(PLAN, axes={}, arms=arms)) == "arms: plain, gated (1a2b3c)"
    assert title_study(replace(PLAN, study="my question")) == "my question"
