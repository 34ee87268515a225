"""A report in W&B: the sections of the page, its words and tables, and between them panels that live on the runs.

Offline its spec is kept as report.spec.json; online it is saved, and the same report is updated next time. W&B draws no
t-intervals, so ours stand in the tables. Needs the extra `report` (wandb-workspaces below 0.5: a private name is used).
"""

import json
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.report.model import Report
from gptlab.report.render import markdown
from gptlab.runs.record import read_json, write_atomically

LONGEST = 128
"""Characters of a title."""


def build(report: Report, project: str, entity: str, group: str) -> Any:
    """The report, not saved. `group`: that of the study's runs."""
    wr = _library()
    blocks = [wr.TableOfContents(), wr.MarkdownBlock(markdown.plain(report.line))]
    for size, answer in report.answers.items():
        blocks += [wr.H2(f"Answer, {size}" if size else "Answer"), wr.MarkdownBlock(markdown.item(answer))]
    live = {"curves": _curves, "tradeoffs": _costs, "samples": _texts}
    for section in report.sections:
        told = [text for one in section.items if (text := markdown.item(one))]
        panels = [live.pop(section.key)(wr, group)] if section.key in live else []
        if told or panels:
            blocks += [wr.H2(section.heading), *panels, *([wr.MarkdownBlock("\n\n".join(told))] if told else [])]
    return wr.Report(
        project=project,
        entity=entity,
        title=report.title[:LONGEST],
        description=report.command,
        blocks=blocks,
        width="fluid",
    )


def _runs(wr: Any, group: str) -> list[Any]:
    """The study's runs, without its summary. The runset names no project, which means the report's own."""
    return [wr.Runset(name=group, filters=f"Group = {group!r} and JobType = 'train'", groupby=["config.variant"])]


def _curves(wr: Any, group: str) -> Any:
    band = {"groupby": "variant", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    panels = [
        wr.LinePlot(title=y, x="tokens", y=[y], layout=wr.Layout(x=12 * at, w=12, h=9), **band)
        for at, y in enumerate(("val/loss", "train/loss"))
    ]
    return wr.PanelGrid(runsets=_runs(wr, group), panels=panels)


def _costs(wr: Any, group: str) -> Any:
    loss = wr.SummaryMetric("final/val_loss")
    panels = [
        wr.ScatterPlot(title=f"loss and {name}", x=x, y=loss, layout=wr.Layout(x=8 * at, w=8, h=8))
        for at, (name, x) in enumerate(
            {
                "parameters": wr.Config("n_params"),
                "step time": wr.SummaryMetric("time/step_ms_median"),
                "cache": wr.SummaryMetric("cache_bytes_per_token"),
            }.items()
        )
    ]
    return wr.PanelGrid(runsets=_runs(wr, group), panels=panels)


def _texts(wr: Any, group: str) -> Any:
    """What the arms wrote, side by side."""
    panel = wr.MediaBrowser(title="samples", media_keys=["samples_html"], layout=wr.Layout(w=24, h=10))
    return wr.PanelGrid(runsets=_runs(wr, group), panels=[panel])


def spec(built: Any) -> dict[str, Any]:
    """What W&B would store."""
    return json.loads(built._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def keep(report: Report, folder: Path, tracking: Tracking) -> Path:
    """Writes the spec beside the study, for a look or a later push."""
    built = build(report, tracking.project, tracking.entity or "entity", tracking.group or folder.name)
    path = folder / "report.spec.json"
    write_atomically(path, json.dumps(spec(built), indent=1, ensure_ascii=False))
    return path


def push(report: Report, folder: Path, tracking: Tracking) -> str:
    """Saves the report online, the one of last time if there was one, and returns its address."""
    wr = _library()
    known = folder / "report.json"
    try:
        entity = tracking.entity or wr.interface._get_api().default_entity
        built = build(report, tracking.project, entity, tracking.group or folder.name)
        if known.exists():
            built.id = read_json(known)["id"]
        built.save()
    except Exception as error:  # of many kinds
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(f"W&B does not save the report: {line}; its spec is {folder / 'report.spec.json'}") from error
    write_atomically(known, json.dumps({"id": built.id, "url": built.url}))
    return built.url


def _library() -> Any:
    try:
        import wandb_workspaces.reports.v2 as wr
    except ModuleNotFoundError as error:
        raise Refused("a W&B Report needs wandb-workspaces: pip install 'gptlab[report]'") from error
    return wr
