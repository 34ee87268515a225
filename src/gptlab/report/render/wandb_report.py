"""A report in W&B: the sections of the page, its words and tables, and between them panels that live on the runs.

Offline its spec is kept as report.spec.json; online it is saved, and the same report is updated next time. W&B draws no
t-intervals, so ours stand in the tables. Needs the extra `report` (wandb-workspaces below 0.5: a private name is used).
"""

import json
import warnings
from pathlib import Path
from typing import Any

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.report.model import Report
from gptlab.report.render.markdown import escape_markdown, render_item
from gptlab.runs.record import read_json, write_atomically

MAX_TITLE = 128
"""Characters of a title."""
SPEC_NAME = "report.spec.json"
"""The file beside a study that holds what W&B would store."""


def build_wandb_report(report: Report, project: str, entity: str, group: str) -> Any:
    """Return the report, not saved. `group`: that of the study's runs."""
    wr = _import_library()
    blocks = [wr.TableOfContents(), wr.MarkdownBlock(escape_markdown(report.line))]
    for size, answer in report.answers.items():
        blocks += [wr.H2(f"Answer, {size}" if size else "Answer"), wr.MarkdownBlock(render_item(answer))]
    # each is drawn once, in the first section of its kind
    panel_makers = {"curves": _make_curves, "tradeoffs": _make_cost_plots, "samples": _make_text_browser}
    for section in report.sections:
        text = "\n\n".join(filter(None, map(render_item, section.items)))
        make_panels = panel_makers.pop(section.key, None)
        if text or make_panels:
            blocks.append(wr.H2(section.heading))
        if make_panels:
            blocks.append(make_panels(wr, group))
        if text:
            blocks.append(wr.MarkdownBlock(text))
    return wr.Report(
        project=project,
        entity=entity,
        title=(report.question or report.title)[:MAX_TITLE],
        description=report.command,
        blocks=blocks,
        width="fluid",
    )


def extract_spec(wandb_report: Any) -> dict[str, Any]:
    """Return the specification that W&B stores of a report."""
    return json.loads(wandb_report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def save_spec(report: Report, folder: Path, tracking: Tracking) -> Path:
    """Write the spec beside the study, for a look or a later push, and return its path."""
    group = tracking.group or folder.name
    wandb_report = build_wandb_report(report, tracking.project, tracking.entity or "entity", group)
    path = folder / SPEC_NAME
    write_atomically(path, json.dumps(extract_spec(wandb_report), indent=1, ensure_ascii=False))
    return path


def push_report(report: Report, folder: Path, tracking: Tracking) -> str:
    """Save the report online, the one of last time if there was one, and return its address."""
    wr = _import_library()
    saved = folder / "report.json"
    try:
        entity = tracking.entity or wr.interface._get_api().default_entity
        wandb_report = build_wandb_report(report, tracking.project, entity, tracking.group or folder.name)
        if saved.exists():
            # the same report updated: its address may have been passed on
            wandb_report.id = read_json(saved)["id"]
        wandb_report.save()
    except Exception as error:  # of many kinds
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Refused(f"W&B does not save the report: {line}; its spec is {folder / SPEC_NAME}") from error
    write_atomically(saved, json.dumps({"id": wandb_report.id, "url": wandb_report.url}))
    return wandb_report.url


# -- panels


def _make_runset(wr: Any, group: str) -> Any:
    """Return the study's runs, without its summary. The runset names no project, which means the report's own."""
    return wr.Runset(name=group, filters=f"Group = {group!r} and JobType = 'train'", groupby=["config.variant"])


def _make_curves(wr: Any, group: str) -> Any:
    """Return validation and training loss, side by side."""
    band = {"groupby": "variant", "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    panels = [
        wr.LinePlot(title=key, x="tokens", y=[key], layout=wr.Layout(x=12 * number, w=12, h=9), **band)
        for number, key in enumerate(("val/loss", "train/loss"))
    ]
    return wr.PanelGrid(runsets=[_make_runset(wr, group)], panels=panels)


def _make_cost_plots(wr: Any, group: str) -> Any:
    """Return loss against each cost, side by side."""
    loss = wr.SummaryMetric("final/val_loss")
    costs = {
        "parameters": wr.Config("n_params"),
        "step time": wr.SummaryMetric("time/step_ms_median"),
        "cache": wr.SummaryMetric("cache_bytes_per_token"),
    }
    panels = []
    for number, (name, cost) in enumerate(costs.items()):
        layout = wr.Layout(x=8 * number, w=8, h=8)
        panels.append(wr.ScatterPlot(title=f"loss and {name}", x=cost, y=loss, layout=layout))
    return wr.PanelGrid(runsets=[_make_runset(wr, group)], panels=panels)


def _make_text_browser(wr: Any, group: str) -> Any:
    """Return the block with the arms' generated texts side by side."""
    panel = wr.MediaBrowser(title="samples", media_keys=["samples_html"], layout=wr.Layout(w=24, h=10))
    return wr.PanelGrid(runsets=[_make_runset(wr, group)], panels=[panel])


def _import_library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, which its users cannot mend
            import wandb_workspaces.reports.v2 as wr
    except ModuleNotFoundError as error:
        raise Refused("a W&B Report needs wandb-workspaces: pip install 'wandb-workspaces<0.5'") from error
    return wr
