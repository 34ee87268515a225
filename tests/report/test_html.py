"""Pages of studies and runs: whole in one file, true to their numbers, harmless whatever a text says."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from findings import BASE, FULL, findings
from tiny_runs import finished, program, summary, tiny

from gptlab.commands.live.snapshot import Snapshot
from gptlab.console.units import format_two_digits
from gptlab.report import history
from gptlab.report.figures.positions import draw_cosine, read_position_table
from gptlab.report.figures.sizes import draw_size_figures
from gptlab.report.index import render_index
from gptlab.report.model import Figure, Report
from gptlab.report.render.html import render_page
from gptlab.report.run import build_metrics_table, build_run_report
from gptlab.report.study import build_study_report
from gptlab.runs.record import append_line, to_json
from gptlab.stats.results import Run, Scaling, Tuning

EVIL = "</script><script>document.title = 'caught'</script><img src=x onerror=\"document.title = 'caught'\">"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of a study with some history, one of them with a text that would be code."""
    made = tmp_path_factory.mktemp("pool")
    for run in named():
        (made / run.folder).mkdir()
        for step in range(1, 700):
            loss = 4 - step / 500 + 0.01 * run.seed
            row = {"step": step, "tokens": step * 100, "train/loss": loss, "time/step_ms": 10 + run.seed}
            row |= {"val/loss": loss} if step % 100 == 0 else {}
            append_line(made / run.folder / "metrics.jsonl", to_json(row))
        append_line(made / run.folder / "samples.jsonl", to_json({"text": EVIL}))
    return made


def named() -> list[Run]:
    """The runs of the hand-made study that finished, each with a folder."""
    runs = [run for run in FULL.runs if run.status == "finished"]
    return [replace(run, folder=f"run{at}") for at, run in enumerate(runs)]


@pytest.fixture(scope="module")
def shown(pool: Path) -> Report:
    tuned = [Tuning(BASE, {1e-3: 2.5, 3e-3: 2.4}, None, False, None)]
    strata = [replace(stratum, runs=named(), tunings=tuned) for stratum in FULL.strata]
    sizes = [Scaling(BASE, "params", [(1e4, 2.5), (1e5, 2.2), (1e6, 1.9)], -0.13, -0.15, -0.11)]
    plan = replace(FULL.plan, study=f"study {EVIL}")
    return build_study_report(replace(FULL, plan=plan, strata=strata, runs=named(), scalings=sizes), pool)


@pytest.fixture(scope="module")
def text(shown: Report) -> str:
    return render_page(shown)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two real runs, of two sizes, whose positions have a table."""
    made = tmp_path_factory.mktemp("real")
    more = ["position=learned", "metric=[word_accuracy]", "sample.count=2", "sample.one_by_one=true"]
    return [finished(*tiny(made, *more, f"model.width={width}", f"name=wide{width}")) for width in (12, 24)]


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


def figures(of: Report) -> dict[str, Figure]:
    """By title."""
    return {item.title: item for section in of.sections for item in section.items if isinstance(item, Figure)}


# -- a study


def test_it_asks_no_host_for_anything(text: str):
    for tag, attributes in Seen(text).tags:
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or ""), tag
    assert "@import" not in text.partition("<body>")[0]


def test_every_arm_stands_in_the_table_with_its_verdict(text: str):
    cells = Seen(text).cells
    for contrast in FULL.strata[0].comparisons[0].contrasts:
        assert contrast.verdict in cells


def test_sections_come_in_the_order_of_a_reviewers_questions(shown: Report):
    keys = list(dict.fromkeys(section.key for section in shown.sections))
    order = "question setup floor results curves tradeoffs where samples rates sizes open threats cost again seeds raw"
    assert keys == [key for key in order.split() if key in keys]
    assert {"results", "curves", "tradeoffs", "rates", "sizes", "open", "cost", "seeds"} <= {*keys}


def test_every_figure_has_words_and_numbers(text: str, shown: Report):
    seen = Seen(text)
    drawn = [attributes for tag, attributes in seen.tags if tag == "div" and attributes.get("class") == "plot"]
    assert len(drawn) == len(figures(shown)) >= 8
    assert all(len(str(one["aria-label"])) > 20 for one in drawn)
    assert text.count("The numbers, as CSV") == len(drawn)
    assert all(len(one.csv.splitlines()) > 1 for one in figures(shown).values())


def test_a_text_is_a_text(text: str):
    scripts = [attributes for tag, attributes in Seen(text).tags if tag == "script"]
    assert sum(not one for one in scripts) == 3  # of tables, plotly, of figures
    assert "<img" not in text.partition("<script>")[0]
    assert "&lt;/script&gt;" in text


def test_long_curves_are_thinned_and_say_so(pool: Path, text: str):
    (first, *_) = history.compute_mean_curves(history.read_histories(named(), pool), "train/loss")
    assert (len(first.points), first.thinned) == (history.MAX_POINTS, 699)
    assert first.points[-1][0] == 69900
    assert "300 of 699 points are shown" in text


def test_curves_over_seconds_compare_at_equal_times(pool: Path):
    first, *_, last = history.read_histories(named(), pool)
    assert first.get_series("train/loss", "seconds")[0][-1] == pytest.approx(0.699 * (10 + first.seed))
    slow = history.History("slow", first.seed, first.columns | {"seconds": first.columns["seconds"] * 2})
    (curve,) = history.compute_difference_curves([first, slow], "train/loss", first.arm, "seconds")
    middle = curve.points[len(curve.points) // 2]
    assert middle[1] == pytest.approx(
        np.interp(middle[0], *slow.get_series("train/loss", "seconds")) - _at(first, middle[0])
    )
    assert middle[1] > 0.3
    assert last.arm


def _at(one: history.History, seconds: float) -> float:
    return float(np.interp(seconds, *one.get_series("train/loss", "seconds")))


def test_a_study_of_which_nothing_finished_has_a_page(tmp_path: Path):
    broken = [replace(run, status="failed", values={}) for run in FULL.runs]
    assert "What is open" in render_page(build_study_report(replace(findings(), strata=[], runs=broken), tmp_path))


# -- runs


def test_a_run_has_its_page(runs: list[Path]):
    made = figures(build_run_report(runs[0]))
    assert {"Loss", "Learning rate", "Word accuracy of each text", "Where the time goes", "Position table"} <= {*made}
    assert {"Cosine of two positions", "Principal components of the positions"} <= {*made}
    found = summary(runs[0])
    assert f"floor {found['val/word_accuracy_floor']:.2f}" in made["Word accuracy of each text"].note


def test_a_runs_table_writes_large_numbers_out_and_names_no_unit_twice():
    summary = {
        "flops_per_token": 648384.0,
        "params_active": 104768,
        "throughput/tokens_per_s": 12345.6,
        "val/loss": 2.72211,
    }
    names, values = build_metrics_table(summary).columns
    rows = dict(zip(names.cells, values.cells, strict=True))
    wanted = {
        "loss, nats/token": "2.722",
        "active parameters": "104,768",
        "FLOPs/token": "648,384",
        "tokens/s": "12,346",
    }
    assert rows == wanted


@pytest.mark.parametrize(
    ("number", "text"), [(0.02025, "0.02"), (1.52, "1.5"), (27.4, "27"), (99.4, "99"), (99.6, "100"), (1280, "1,280")]
)
def test_a_number_of_two_digits_is_never_written_in_powers_of_ten_nor_as_nothing(number: float, text: str):
    assert format_two_digits(number) == text


def test_the_cosine_of_a_position_with_itself_is_one(runs: list[Path]):
    table = read_position_table(runs[0])
    assert table is not None
    assert table.shape == (16, 12)
    (trace,) = draw_cosine(table).data
    assert np.diag(trace["z"]) == pytest.approx(1)


def test_sizes_have_their_seven_plots(runs: list[Path]):
    made = draw_size_figures({"12": runs[:1], "24": runs[1:]})
    assert [one.title.partition(",")[0] for one in made] == [
        "Word accuracy of each text",
        "Time to write each text",
        "Loss of each size",
        "Time of a step",
        "Time of each evaluation",
        "Where the time goes",
        "Position table",
        "Position table",
    ]
    training = made[5].data[1]
    assert training["y"] == pytest.approx([summary(folder)["time/train_s"] / 60 for folder in runs])


def test_two_runs_show_what_differs_in_their_configs(runs: list[Path], tmp_path: Path):
    done = program("-m gptlab", "compare", *map(str, runs), "--to", str(tmp_path / "pair"))
    assert re.search(r"^model.width +12 +24 *$", done.out, re.M), done.out
    assert "learned" not in done.out.partition("what differs")[2]
    assert "Loss by position" in (tmp_path / "pair" / "report.html").read_text()


def test_the_index_leads_to_every_page(runs: list[Path]):
    outputs = runs[0].parent.parent
    done = program("-m gptlab", "report", str(runs[0]))
    assert done.status == 0, done.err
    links = [str(one["href"]) for tag, one in Seen((outputs / "index.html").read_text()).tags if tag == "a"]
    assert [(outputs / link).resolve() for link in links] == [(runs[0] / "report.html").resolve()]
    assert runs[1].name in Seen(render_index(outputs)).cells


@pytest.mark.parametrize("damage", [{"strata": None}, {"runs": [{}]}, {"strata": [{"answer": [1]}]}, {"seconds": "x"}])
def test_a_damaged_comparison_hides_no_other_study_in_the_index(damage: dict[str, Any], tmp_path: Path):
    for name, content in (("damaged", damage), ("whole", {})):
        folder = tmp_path / "ablations" / name
        folder.mkdir(parents=True)
        (folder / "study.json").write_text("{}")
        (folder / "ledger.jsonl").write_text('{"key": "a", "status": "failed", "at": "noon"}\n')
        (folder / "comparison.json").write_text(json.dumps({"version": 1, **content}))
    assert {"damaged", "whole", "its comparison.json is not whole"} <= {*Seen(render_index(tmp_path)).cells}
    served = {study["name"]: study["answer"] for study in Snapshot(tmp_path, str).list_studies()}
    assert served == {"damaged": "its comparison.json is not whole" if "strata" in damage else "", "whole": ""}


def test_what_is_neither_study_nor_run_is_refused(tmp_path: Path):
    done = program("-m gptlab", "report", str(tmp_path))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "neither a study nor a run" in done.err


# -- in a browser

PROBE = """<script>addEventListener('error', e => document.body.dataset.wrong = e.message);
addEventListener('load', () => setTimeout(() => {
  const told = document.body.dataset, point = document.querySelector('.plot .point');
  if (point) {
    const box = point.getBoundingClientRect();
    const at = {bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2};
    const drag = point.closest('.plot').querySelector('.nsewdrag');
    for (const kind of ['mouseover', 'mousemove']) drag.dispatchEvent(new MouseEvent(kind, at));
  }
  setTimeout(() => {
    const place = one => one.getBoundingClientRect();
    told.hovered = document.querySelectorAll('.hoverlayer .hovertext').length;
    told.wide = document.documentElement.scrollWidth - innerWidth;
    told.drawn = document.querySelectorAll('.plot .main-svg').length;
    told.plots = document.querySelectorAll('.plot').length;
    told.titled = [...document.querySelectorAll('.plot .g-xtitle')].every(one =>
      place(one).right <= place(one.closest('.plot')).right);
    told.apart = [...document.querySelectorAll('.plot')].every(plot => {
      const legend = plot.querySelector('.legend');
      return !legend || [...plot.querySelectorAll('.xtick')].every(one =>
        place(one).bottom <= place(legend).top + 1 || place(one).top >= place(legend).bottom - 1);
    });
    told.paper = getComputedStyle(document.body).backgroundColor;
    told.ink = (document.querySelector('.plot text') || document.body).style.fill;
    told.focus = [...document.querySelectorAll('.scroll')].every(one => one.tabIndex === 0);
    told.asked = performance.getEntriesByType('resource').length;
    told.seen = [...document.querySelectorAll('caption span')].every(one => place(one).right <= innerWidth);
    dispatchEvent(new Event('beforeprint'));
    told.printed = [...document.querySelectorAll('.plot .main-svg')].every(one => place(one).width === 300);
    dispatchEvent(new Event('afterprint'));
  }, 300);
}, 500))</script>"""


NARROWEST = 500
"""Pixels of Chromium's narrowest window: a page for a phone is looked at in a frame."""
FRAME = """<body><iframe src="page.html" style="border: 0; width: WIDTHpx; height: 2000px"></iframe><script>
const page = () => document.querySelector('iframe').contentDocument.body;
setTimeout(() => Object.assign(document.body.dataset, page().dataset), 9000)
</script></body>"""
PICK = """<script>addEventListener('load', () => {
  const told = document.body.dataset, shown = table => [...table.tBodies[0].rows].filter(row => !row.hidden);
  const tables = [...document.querySelectorAll('table:not(.facts)')];
  told.boxes = tables.every(table => !table.querySelector('.filter') === table.tBodies[0].rows.length < 6);
  const table = tables.find(one => one.querySelector('.filter')), box = table.querySelector('.filter');
  const first = table.tBodies[0].rows[0].cells[0].textContent, all = shown(table).length;
  const pick = words => { box.value = words; box.dispatchEvent(new Event('input')); return shown(table).length; };
  told.fewer = pick(first.toUpperCase()) < all && shown(table).every(row => row.textContent.includes(first));
  told.picked = [pick('no-such-word'), pick('') === all];
  table.tHead.rows[0].cells[0].click(); table.tHead.rows[0].cells[0].click();
  const names = shown(table).map(row => row.cells[0].textContent);
  told.sorted = names.every((name, at) => !at || names[at - 1].localeCompare(name) >= 0);
})</script>"""


def browse(html: str, folder: Path, width: int, *flags: str) -> tuple[dict[str, str], str]:
    """What a probe found out inside headless Chromium, and the page, or the frame around it, as it then was."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    file = folder / "page.html"
    file.write_text(html.replace("<body>", f"<body>{PROBE}", 1), encoding="utf-8")
    if width < NARROWEST:
        file = folder / "frame.html"
        file.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
        flags = ("--allow-file-access-from-files", *flags)
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command += [*flags, f"--window-size={width},2000", "--virtual-time-budget=20000", "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    (body,) = re.findall(r"<body[^>]*>", dom)
    return dict(re.findall(r'data-(\w+)="([^"]*)"', body)), dom


@pytest.mark.thorough
@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_draws_it_and_nothing_is_wrong(text: str, tmp_path: Path, width: int):
    told, dom = browse(text, tmp_path, width)
    assert "wrong" not in told
    assert int(told["drawn"]) >= int(told["plots"]) >= 8
    assert int(told["hovered"]) >= 1
    assert int(told["wide"]) <= 0
    assert (told["asked"], told["focus"], told["paper"]) == ("0", "true", "rgb(251, 251, 249)")
    assert told["seen"] == "true"  # captions, where a table is wider than the screen
    assert told["printed"] == "true"  # figures as wide as half a sheet, whatever the screen was
    assert "<title>caught" not in dom


@pytest.mark.thorough
def test_long_names_of_arms_cut_off_no_title_and_hide_no_legend(text: str, tmp_path: Path):
    told, _ = browse(text.replace('"gqa"', '"gqa norm=layernorm mlp=gelu"'), tmp_path, 400)
    assert (told["titled"], told["apart"]) == ("true", "true")


@pytest.mark.thorough
def test_a_table_is_sorted_by_a_click_and_its_rows_are_picked_by_words(text: str, tmp_path: Path):
    told, _ = browse(text.replace("</body>", f"{PICK}</body>"), tmp_path, 1280)
    assert "wrong" not in told
    assert (told["boxes"], told["fewer"], told["picked"], told["sorted"]) == ("true", "true", "0,true", "true")


@pytest.mark.thorough
def test_it_is_dark_where_the_reader_is(text: str, tmp_path: Path):
    told, _ = browse(text, tmp_path, 800, "--blink-settings=preferredColorScheme=0")
    assert told["paper"] == "rgb(21, 23, 27)"
    assert told["ink"] == "rgb(230, 231, 234)"


@pytest.mark.thorough
def test_runs_and_the_index_open_in_a_browser(runs: list[Path], tmp_path: Path):
    for name, html in {
        "run": render_page(build_run_report(runs[0])),
        "index": render_index(runs[0].parent.parent),
    }.items():
        (tmp_path / name).mkdir()
        told, _ = browse(html, tmp_path / name, 400)
        assert "wrong" not in told
        assert (told["asked"], int(told["wide"]) <= 0) == ("0", True)
        assert int(told["drawn"]) >= int(told["plots"]) >= (8 if name == "run" else 0)
