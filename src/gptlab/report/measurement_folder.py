"""The folder of a study that measures its arms together: read back, compared, written as a report."""

from pathlib import Path

from rich.console import Console

from gptlab.report import index, measurement
from gptlab.report.render import html as page
from gptlab.report.render import markdown
from gptlab.runs.record import dump, read, write
from gptlab.runs.study_folder import Ledger
from gptlab.stats import measurements as measured
from gptlab.stats.measurements import Measurements, Row


def trains_nothing(folder: Path) -> bool:
    """True of the folder of a study whose arms were measured together."""
    path = folder / "study.json"
    return path.exists() and "knobs" in read(path)


def again(folder: Path, console: Console) -> None:
    """Shows and writes what a study's blocks say, from its folder alone."""
    found = compared(folder)
    measured.print_measurements(found, console)
    save(found, folder)
    console.print(f"\n{folder}", soft_wrap=True, markup=False)


def compared(folder: Path) -> Measurements:
    """What a study's blocks say, from its folder alone."""
    ledger = Ledger(folder)
    paths = [_path(ledger, key) for key in ledger.asked["cells"]]
    rows = [Row(**row) for path in paths if path.exists() for row in read(path)["rows"]]
    after = folder.with_name(f"{folder.name}-{ledger.asked['knobs'].get('follow_up')}") / "comparison.json"
    told = [line["text"] for one in read(after)["strata"] for line in one["sentences"]] if after.exists() else []
    return measured.summarize_rows(ledger.asked, rows, told)


def save(found: Measurements, folder: Path) -> None:
    """Writes report.md, report.html, results.csv, comparison.json, and the index anew."""
    told = measurement.report(found)
    write(folder / "report.md", markdown.text(told))
    page.save(told, folder)
    write(folder / "results.csv", measured.write_results_csv(found.rows))
    answer = [{"text": str(line)} for line in measurement.answer(found)]
    document = {**measured.to_document(found), "strata": [{"answer": answer}]}
    write(folder / "comparison.json", dump(document, indent=2) + "\n")
    index.save(Ledger(folder).outputs)


def _path(ledger: Ledger, key: str) -> Path:
    return ledger.folder / "rows" / f"{key}.json"
