"""Laws of a study's card: one page, with the answer, the verdicts and the command, and no more of the setup."""

from pathlib import Path

from findings import findings
from tiny_runs import program

from gptlab.report.card import render_card
from gptlab.report.study import build_study_report


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
