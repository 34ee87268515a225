"""The folder of a study that measures its arms together: read back, summarised, written as a report."""

from pathlib import Path
from typing import Any

from rich.console import Console

from gptlab.report.index import save_index
from gptlab.report.measurement import build_measurement_report, summarize_measurements
from gptlab.report.render.comparison_keys import VERSION
from gptlab.report.render.files import read_comparison, sentence_to_dict
from gptlab.report.render.html import save_page
from gptlab.report.render.markdown import render_markdown
from gptlab.runs.record import read_json, to_json, write_atomically
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats import measurements as stats
from gptlab.stats.labels import read_label, read_point
from gptlab.stats.measurements import Measurements, Row


def is_measurement_folder(folder: Path) -> bool:
    """Return whether this is the folder of a study that trained nothing and measured its arms together."""
    # only a measuring study has knobs of its own in its plan
    return (folder / "study.json").exists() and StudyFolder(folder).plan.knobs is not None


def report_measurements(folder: Path, console: Console) -> None:
    """Print and write what a study's blocks say, from its folder alone."""
    measurements = load_measurements(folder)
    stats.print_measurements(measurements, console)
    save_measurement_report(measurements, folder)
    console.print(f"\n{folder}", soft_wrap=True, markup=False)


def load_measurements(folder: Path) -> Measurements:
    """Return the measurements of a study, from its folder alone."""
    study_folder = StudyFolder(folder)
    plan = study_folder.plan
    rows: list[Row] = []
    for key in plan.cells:
        path = find_rows_path(study_folder, key)
        # blocks that are missing leave fewer rows, and not none
        if path.exists():
            rows += [_read_row(row) for row in read_json(path)["rows"]]
    # arms of the same study that were trained afterwards, in a folder beside it
    trained_path = folder.with_name(f"{folder.name}-{(plan.knobs or {}).get('follow_up')}") / "comparison.json"
    sentences: list[str] = []
    if trained_path.exists():
        for stratum in read_comparison(trained_path)["strata"]:
            sentences += [line["text"] for line in stratum["sentences"]]
    return stats.summarize_rows(plan, rows, sentences)


def _read_row(row: dict[str, Any]) -> Row:
    """Return a row as it was written; an older file knows the points of curves by their labels, which are read."""
    pairs = {}
    for key, label in (("arm_values", row["arm"]), ("metric_values", row["metric"])):
        values = tuple((knob, text) for knob, text in row[key]) if key in row else read_label(label)
        pairs[key] = values if key in row or read_point(values) else ()
    return Row(**{**row, **pairs})


def save_measurement_report(measurements: Measurements, folder: Path) -> None:
    """Write report.md, report.html, results.csv and comparison.json, and the index of outputs."""
    report = build_measurement_report(measurements)
    write_atomically(folder / "report.md", render_markdown(report))
    save_page(report, folder)
    write_atomically(folder / "results.csv", stats.write_results_csv(measurements.rows))
    answer = [sentence_to_dict(sentence) for sentence in summarize_measurements(measurements)]
    document = {"version": VERSION, **stats.to_document(measurements), "strata": [{"answer": answer}]}
    write_atomically(folder / "comparison.json", to_json(document, indent=2) + "\n")
    save_index(StudyFolder(folder).outputs)


def find_rows_path(study_folder: StudyFolder, key: str) -> Path:
    """Return where the rows of a block are."""
    return study_folder.path / "rows" / f"{key}.json"
