"""The folder of a study that measures its arms together: read back, compared, written as a report."""

from pathlib import Path

from rich.console import Console

from gptlab.report import index, measurement
from gptlab.report.render import html as page
from gptlab.report.render import markdown
from gptlab.runs.record import read_json, to_json, write_atomically
from gptlab.runs.study_folder import StudyFolder
from gptlab.stats import measurements as measured
from gptlab.stats.measurements import Measurements, Row


def trains_nothing(folder: Path) -> bool:
    """True of the folder of a study whose arms were measured together."""
    path = folder / "study.json"
    return path.exists() and "knobs" in read_json(path)


def again(folder: Path, console: Console) -> None:
    """Shows and writes what a study's blocks say, from its folder alone."""
    found = compared(folder)
    measured.print_measurements(found, console)
    save(found, folder)
    console.print(f"\n{folder}", soft_wrap=True, markup=False)


def compared(folder: Path) -> Measurements:
    """What a study's blocks say, from its folder alone."""
    study_folder = StudyFolder(folder)
    paths = [_path(study_folder, key) for key in study_folder.plan["cells"]]
    rows = [Row(**row) for path in paths if path.exists() for row in read_json(path)["rows"]]
    after = folder.with_name(f"{folder.name}-{study_folder.plan['knobs'].get('follow_up')}") / "comparison.json"
    told = [line["text"] for one in read_json(after)["strata"] for line in one["sentences"]] if after.exists() else []
    return measured.summarize_rows(study_folder.plan, rows, told)


def save(found: Measurements, folder: Path) -> None:
    """Writes report.md, report.html, results.csv, comparison.json, and the index anew."""
    told = measurement.report(found)
    write_atomically(folder / "report.md", markdown.text(told))
    page.save(told, folder)
    write_atomically(folder / "results.csv", measured.write_results_csv(found.rows))
    answer = [{"text": str(line)} for line in measurement.answer(found)]
    document = {**measured.to_document(found), "strata": [{"answer": answer}]}
    write_atomically(folder / "comparison.json", to_json(document, indent=2) + "\n")
    index.save(StudyFolder(folder).outputs)


def _path(study_folder: StudyFolder, key: str) -> Path:
    return study_folder.path / "rows" / f"{key}.json"
