"""The page of a study: whole in one file, true to its numbers, harmless whatever a text says."""

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from study import FULL, findings

from gptlab.ablation.outcome import Run
from gptlab.record import append, dump
from gptlab.report import curves
from gptlab.report.page import page

EVIL = "</script><script>document.title = 'caught'</script><img src=x onerror=\"document.title = 'caught'\">"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of a study with some history, one of them with a text that would be code."""
    made = tmp_path_factory.mktemp("pool")
    for run in named():
        (made / run.folder).mkdir()
        for step in range(1, 700):
            value = {"step": step, "tokens": step * 100, "train/loss": 4 - step / 500 + 0.01 * run.seed}
            append(made / run.folder / "metrics.jsonl", dump(value))
        append(made / run.folder / "samples.jsonl", dump({"text": EVIL}))
    return made


def named() -> list[Run]:
    """The runs of the hand-made study that finished, each with a folder."""
    runs = [run for run in FULL.runs if run.status == "finished"]
    return [replace(run, folder=f"run{at}") for at, run in enumerate(runs)]


@pytest.fixture(scope="module")
def text(pool: Path) -> str:
    strata = [replace(stratum, runs=named()) for stratum in FULL.strata]
    return page(replace(FULL, strata=strata, runs=named(), study=f"study {EVIL}"), pool)


class Seen(HTMLParser):
    """What a reader finds: tables' cells, figures, headings and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells, self.tags, self.scripts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("td", "th"):
            self.cells.append(data)


def test_it_asks_no_host_for_anything(text: str):
    for tag, attributes in Seen(text).tags:
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or ""), tag
    assert "@import" not in text.partition("<body>")[0]


def test_every_arm_stands_in_the_table_with_its_verdict(text: str):
    cells = Seen(text).cells
    for contrast in FULL.strata[0].comparisons[0].contrasts:
        assert contrast.verdict in cells


def test_every_figure_has_words_and_numbers(text: str):
    seen = Seen(text)
    figures = [attributes for tag, attributes in seen.tags if tag == "div" and attributes.get("class") == "plot"]
    assert len(figures) >= 4
    assert all(len(str(one["aria-label"])) > 20 for one in figures)
    assert text.count("The numbers, as CSV") == len(figures)


def test_a_text_is_a_text(text: str):
    scripts = [attributes for tag, attributes in Seen(text).tags if tag == "script"]
    assert sum(not one for one in scripts) == 2  # plotly and ours
    assert "<img" not in text.partition("<script>")[0]
    assert "&lt;/script&gt;" in text


def test_long_curves_are_thinned_and_say_so(pool: Path, text: str):
    (first, *_) = curves.means(curves.logged(named(), pool, "train/loss"))
    assert (len(first.points), first.thinned) == (curves.MOST, 699)
    assert first.points[-1][0] == 69900
    assert "300 of 699 points are shown" in text


def test_a_study_of_which_nothing_finished_has_a_page(tmp_path: Path):
    broken = [replace(run, status="failed", values={}) for run in FULL.runs]
    assert "What did not finish" in page(replace(findings(), strata=[], runs=broken), tmp_path)


@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_draws_it_and_nothing_is_wrong(text: str, tmp_path: Path, width: int):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    probe = (
        "<script>addEventListener('error', e => document.body.dataset.wrong = e.message);"
        "addEventListener('load', () => setTimeout(() => {"
        "document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;"
        "document.body.dataset.drawn = document.querySelectorAll('.plot .main-svg').length;"
        "document.body.dataset.asked = performance.getEntriesByType('resource').length}, 500))</script>"
    )
    file = tmp_path / "report.html"
    file.write_text(text.replace("<body>", f"<body>{probe}", 1), encoding="utf-8")
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command += [f"--window-size={width},2000", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    (body,) = re.findall(r"<body[^>]*>", dom)
    assert "data-wrong" not in body
    assert int(re.findall(r'data-drawn="(\d+)"', body)[0]) >= 4
    assert int(re.findall(r'data-wide="(-?\d+)"', body)[0]) <= 0
    assert 'data-asked="0"' in body
    assert "<title>caught" not in dom
