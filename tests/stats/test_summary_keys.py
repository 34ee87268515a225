"""Laws of summary.json's keys: declared once, known to the documentation, and enough to name what is shown."""

import runpy

import pytest
from tiny_runs import ROOT

from gptlab.report import run as report_of_a_run
from gptlab.report.setup import FACTS
from gptlab.report.study import TIMES
from gptlab.stats.results import METRICS, TEST, WRITE, make_metric
from gptlab.stats.summary_keys import GROUPS, SUMMARY_KEYS, find_key


def test_a_key_is_declared_once_with_a_file_that_exists():
    assert len(SUMMARY_KEYS) == sum(map(len, GROUPS.values()))
    for declared in SUMMARY_KEYS.values():
        assert (ROOT / "src" / "gptlab" / declared.source).exists(), declared


def test_the_page_is_what_its_generator_writes():
    page = (ROOT / "docs" / "comparison.md").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "tables.py"))["render_page"](page) == page
    assert all(f"| `{key}` |" in page for key in SUMMARY_KEYS)


def test_what_is_shown_has_a_name():
    shown = [*(metric.key for metric in (*METRICS, TEST, WRITE)), *report_of_a_run.METRICS, *FACTS, *TIMES]
    assert all(SUMMARY_KEYS[key].name for key in shown)


def test_what_has_no_better_direction_is_not_compared():
    with pytest.raises(ValueError, match="neither direction"):
        make_metric("tokens")


@pytest.mark.parametrize(
    ("key", "declared"),
    [
        ("val/loss", "val/loss"),
        ("val/loss_at_4x", "val/loss_at_<n>x"),
        ("val/loss_at_missing", "val/loss_at_missing"),
        ("val/word_accuracy_original", "val/<metric>"),
        ("val/word_accuracy_original_floor", "val/<metric>_floor"),
        ("val/word_accuracy_low", "val/<metric>_low"),
        ("time/nothing_s", None),
    ],
)
def test_a_key_is_found_by_the_most_special_line_that_fits(key: str, declared: str | None):
    found = find_key(key)
    assert (found and found.key) == declared
