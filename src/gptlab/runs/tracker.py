"""Tracker: the copy of a run in Weights & Biases. The run folder is the truth; this may fail without harm to it.

Offline unless asked otherwise; never a prompt: what needs an account is refused before any compute. Every row carries
`step` and `tokens`, which are the axes.
"""

import html
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.runs.mirror import WANDB, Mirror, check_mirrors, select_numbers
from gptlab.runs.wandb_environment import (
    UNSET_FOLDERS,
    check_environment,
    find_api_key,
    read_timeouts,
    tidy_environment,
)


def choose_mode(tracking: Tracking) -> str:
    """Return W&B's mode on this machine: online, offline or disabled."""
    if tracking.mode == "disabled" and tracking.to != [WANDB]:
        names = ",".join(tracking.to)
        raise Refused(
            f"tracking=disabled tracks nowhere, and tracking.to=[{names}] somewhere; leave one out: without "
            f"{WANDB} in its list, W&B gets nothing"
        )
    check_mirrors(tracking.to)
    if WANDB not in tracking.to:
        return "disabled"
    if tracking.mode != "disabled":
        check_environment(tracking)
    if tracking.mode == "auto":
        return "online" if find_api_key() and not os.environ.get("WANDB_MODE") else "offline"
    if tracking.mode == "online" and not find_api_key():
        raise Refused(
            "tracking=online needs an API key of 40 characters and there is none; set WANDB_API_KEY (or run "
            "`wandb login`), or use tracking=offline and upload later with `wandb sync`"
        )
    return tracking.mode


FINAL_NAMES = {"final/val_loss": "val/loss", "final/ppl": "val/perplexity", "best/val_loss": "val/loss_best"}
"""Names in W&B's summary that no row of history can overwrite."""


class Histogram(NamedTuple):
    """Counts of values between edges, which are one more than the counts. metrics.jsonl holds both lists."""

    counts: list[float]
    edges: list[float]


class Tracker:
    """One W&B run, or none. After its first failure it says so once and stays silent.

    identity  keyword arguments of wandb.init that name the run
    resumed   goes on with a run that is there, online
    warn      called with the one line of a failure
    """

    def __init__(
        self,
        mode: str,
        outputs: Path,
        tracking: Tracking,
        identity: dict[str, Any],
        resumed: bool = False,
        warn: Callable[[str], None] = print,
    ) -> None:
        self.run: Any = None
        self._wandb: Any = None  # the module, imported where a mode needs it
        self.mode, self.failed = mode, False
        self.warn, self.artifacts = warn, tracking.artifacts
        self.mirrors: dict[str, Mirror] = {}
        if mode == "disabled":
            return
        own = f"*-{identity['id']}*"
        # wandb.init makes folders before it fails; nothing half-made stays
        before = {*(outputs / "wandb").glob(own)}  # of a run that is resumed; not all of it need be uploaded
        try:
            self._open(outputs.absolute(), tracking, identity, resumed)
        except Exception as error:  # wandb raises errors of many kinds
            for left in {*(outputs / "wandb").glob(own)} - before:
                shutil.rmtree(left, ignore_errors=True)
            for link in (outputs / "wandb").glob("*"):  # latest-run and its logs
                if link.is_symlink() and not link.exists():
                    link.unlink(missing_ok=True)
            line = " ".join(str(error).split()).partition(" Consider ")[0].partition(" For further information")[0]
            others = " or ".join(f"tracking={other}" for other in ("offline", "disabled") if other != mode)
            if "project name" in line:
                others = "another tracking.project, or WANDB_PROJECT"
            words = line.lower().replace("_", " ")
            for name in sorted(os.environ):
                # what W&B calls run_id or base_url is read from WANDB_RUN_ID, WANDB_BASE_URL
                if name.startswith("WANDB_") and f" {name[6:].lower().replace('_', ' ')} " in f" {words} ":
                    others = f"another {name}, or unset it"
            raise Refused(f"W&B cannot be opened ({mode}): {line}; use {others}") from error

    def _open(self, outputs: Path, tracking: Tracking, identity: dict[str, Any], resumed: bool) -> None:
        """Begin the run in W&B, or go on with it, with all of its files below the outputs."""
        tidy_environment()
        for name in UNSET_FOLDERS:
            os.environ[name] = str(outputs / "wandb" / name.split("_")[1].lower())
        os.environ.setdefault("WANDB_SILENT", "true")  # the setting comes too late for what login says
        import wandb

        (outputs / "wandb").mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(outputs),
            project=tracking.project,
            entity=tracking.entity,
            # cells of a study follow each other in one process
            reinit="create_new",
            resume="allow" if resumed and self.mode == "online" else None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                **read_timeouts(),  # type: ignore[arg-type]
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=1,
                x_disable_stats=self.mode == "offline",
                disable_git=True,
                disable_code=True,
                # of each cell of a study they would be the same, and listing them takes 0.2 s; its summary has them
                x_save_requirements=identity.get("group") is None or identity.get("job_type") == "summary",
            ),
            **identity,
        )
        self._wandb = wandb

    def define_axes(self) -> None:
        """Make `tokens` the axis of every row; `step` is the other one."""

        def define(run: Any) -> None:
            # tokens, so that runs of other batch sizes can be laid over each other
            run.define_metric("tokens", hidden=True)
            run.define_metric("step", hidden=True)
            run.define_metric("*", step_metric="tokens")

        self._try(define)

    def log_metrics(self, row: dict[str, Any]) -> None:
        """Log a row of metrics, with `step` and `tokens` in it."""

        def draw(value: Any) -> Any:
            if not isinstance(value, Histogram):
                return value
            pair: Any = (value.counts, value.edges)
            return self._wandb.Histogram(np_histogram=pair)

        self._try(lambda run: run.log({key: draw(value) for key, value in row.items()}))

        def copy(mirror: Mirror) -> None:
            if numbers := mirror.select_new(row["step"], select_numbers(row)):
                mirror.log_metrics(row["step"], numbers)

        self._mirror(copy)

    def log_sample(self, row: dict[str, Any]) -> None:
        """Log a generated text, as escaped HTML."""

        def log(run: Any) -> None:
            page = self._wandb.Html(f"<pre>{html.escape(row['text'])}</pre>", inject=False)
            run.log({"samples_html": page, "step": row["step"], "tokens": row["tokens"]})

        self._try(log)

        def copy(mirror: Mirror) -> None:
            if row["step"] > mirror.last_steps.get("sample", -1):
                mirror.log_sample(row["step"], row["text"])

        self._mirror(copy)

    def log_sample_table(self, rows: list[dict[str, Any]]) -> None:
        """Log the texts that are generated at the end, if there are any: one table, in mirrors one text."""
        columns = ["step", "prompt", "sample", "seed", "temperature"]
        data = [[row["step"], row["prompt"], row["text"], row["seed"], row["temperature"]] for row in rows]
        if rows:
            self.log_tables({"samples": (columns, data)}, step=rows[-1]["step"], tokens=rows[-1]["tokens"])
            joined = "\n\n---\n\n".join(row["text"] for row in rows)
            self._mirror(lambda mirror: mirror.log_sample(rows[-1]["step"], joined))

    def log_tables(self, tables: dict[str, tuple[list[str], list[list[Any]]]], **axes: int) -> None:
        """Log tables: columns and data of each. A column that has words and numbers loses its type."""

        def table(columns: list[str], data: list[list[Any]]) -> Any:
            # W&B guesses a column's type from its first cells and refuses what does not fit
            mixed = False
            for column in zip(*data, strict=True):
                mixed = mixed or len({isinstance(cell, str) for cell in column if cell is not None}) > 1
            return self._wandb.Table(columns=[*columns], data=data, allow_mixed_types=mixed)

        self._try(lambda run: run.log({**{name: table(*parts) for name, parts in tables.items()}, **axes}))

    def upload_checkpoint(self, folder: Path) -> None:
        """Upload the best weights, if `tracking.artifacts` asks for it.

        A run that was never evaluated on its way has no best ones: its last ones are uploaded.
        """
        if self.artifacts:
            name = "best" if (folder / "best.ckpt").exists() else "last"
            self.upload_artifact("checkpoint", name, folder / f"{name}.ckpt")

    def upload_artifact(self, kind: str, name: str, path: Path) -> None:
        """Upload a file or a folder as an artifact of the run."""

        def upload(run: Any) -> None:
            artifact = self._wandb.Artifact(f"{run.id}-{name}", type=kind)
            (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path))
            run.log_artifact(artifact)

        self._try(upload)

    def finish(self, summary: dict[str, Any], exit_code: int) -> None:
        """Write the summary and close, also after a failure; never wait longer than a minute."""
        # W&B takes the last row of history for its summary, so these have names that no row has
        final = {theirs: summary[ours] for theirs, ours in FINAL_NAMES.items() if ours in summary}
        self._try(lambda run: run.summary.update({**summary, **final}))
        # closed even after a failure, or its service would keep this process alive
        self._try(lambda run: run.finish(exit_code=exit_code), always=True)
        self.run = None
        self._mirror(lambda mirror: mirror.finish(summary))
        self.mirrors.clear()

    def _mirror(self, act: Callable[[Mirror], None]) -> None:
        """Call `act` on every mirror; one that fails is reported once and dropped."""
        for name, mirror in [*self.mirrors.items()]:
            try:
                act(mirror)
            except Exception as error:  # a library may raise anything
                line = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self.warn(f"{name} stopped: {line}; the files on disk are whole")
                del self.mirrors[name]

    def _try(self, act: Callable[[Any], Any], always: bool = False) -> None:
        """Call `act` on W&B's run, unless it has failed before; report its first failure once."""
        if self.run is None or (self.failed and not always):
            return
        try:
            act(self.run)
        except Exception as error:
            line = " ".join(str(error).split()).removesuffix(".")
            later = "; upload them later with `wandb sync --include-online`" if self.mode == "online" else ""
            if not self.failed:
                self.warn(f"W&B stopped: {type(error).__name__}: {line}; the files on disk are whole{later}")
            self.failed = True
