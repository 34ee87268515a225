"""The mirror of a run in Weights & Biases. The run folder is the truth; this may fail without harm to it.

Offline unless asked otherwise; never a prompt: what needs an account is refused before any compute. Every row carries
`step` and `tokens`, which are the axes.
"""

import html
import netrc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from gptlab.recipe import Tracking
from gptlab.refused import Refused

KEY = 40
"""The least length of an API key."""
UNSET = [name for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR") if name not in os.environ]
"""Places outside the outputs, where W&B would stage files; the user's own choice, if there is one, stands."""


def decide(tracking: Tracking) -> str:
    """The mode for this machine: online, offline or disabled."""
    if tracking.mode == "auto":
        return "online" if api_key() and not os.environ.get("WANDB_MODE") else "offline"
    if tracking.mode == "online" and not api_key():
        raise Refused(
            "tracking=online needs an API key of 40 characters and there is none; set WANDB_API_KEY (or run "
            "`wandb login`), or use tracking=offline and upload later with `wandb sync`"
        )
    return tracking.mode


def api_key() -> str | None:
    """The key of the environment or of ~/.netrc, if it looks like one."""
    key = os.environ.get("WANDB_API_KEY")
    if not key:
        host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
        try:
            entry = netrc.netrc().authenticators(host)
        except (OSError, netrc.NetrcParseError):
            entry = None
        key = entry[2] if entry else None
    return key if key and len(key) >= KEY else None


FINAL = {"final/val_loss": "val/loss", "final/ppl": "val/perplexity", "best/val_loss": "val/loss_best"}
"""Names in W&B's summary that no row of history can overwrite."""


class Mirror:
    """One W&B run, or none. After its first failure it says so once and stays silent."""

    def __init__(
        self,
        mode: str,
        outputs: Path,
        tracking: Tracking,
        identity: dict[str, Any],
        resumed: bool = False,
        complain: Callable[[str], None] = print,
    ) -> None:
        self.run: Any = None
        self.mode = mode
        self.complain, self.artifacts = complain, tracking.artifacts
        if mode == "disabled":
            return
        try:
            self._open(outputs.absolute(), tracking, identity, resumed)
        except Exception as error:  # wandb raises errors of many kinds
            for left in (outputs / "wandb").glob(f"*-{identity['id']}"):
                shutil.rmtree(left, ignore_errors=True)
            line = " ".join(str(error).split()).partition(" Consider ")[0]
            raise Refused(
                f"W&B cannot be opened ({mode}): {line}; use tracking=offline or tracking=disabled"
            ) from error

    def _open(self, outputs: Path, tracking: Tracking, identity: dict[str, Any], resumed: bool) -> None:
        for name in UNSET:
            os.environ[name] = str(outputs / "wandb" / name.split("_")[1].lower())
        os.environ.setdefault("WANDB_SILENT", "true")  # the setting comes too late for what login says
        import wandb

        (outputs / "wandb").mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            mode=self.mode,  # type: ignore[arg-type]
            dir=str(outputs),
            project=tracking.project,
            entity=tracking.entity,
            group=tracking.group,
            job_type="train",
            reinit="create_new",
            resume="allow" if resumed and self.mode == "online" else None,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=30,
                finish_timeout=60,
                x_transaction_log_flush_interval=1,
                x_disable_stats=self.mode == "offline",
                disable_git=True,
                disable_code=True,
            ),
            **identity,
        )
        self._wandb = wandb
        self.run.define_metric("tokens", hidden=True)
        self.run.define_metric("step", hidden=True)
        self.run.define_metric("*", step_metric="tokens")

    def log(self, row: dict[str, Any]) -> None:
        """A row of metrics, with `step` and `tokens` in it."""
        self._try(lambda run: run.log(row))

    def sample(self, row: dict[str, Any]) -> None:
        """A text, as escaped HTML."""
        self._try(
            lambda run: run.log(
                {
                    "samples_html": self._wandb.Html(f"<pre>{html.escape(row['text'])}</pre>", inject=False),
                    "step": row["step"],
                    "tokens": row["tokens"],
                }
            )
        )

    def samples(self, rows: list[dict[str, Any]]) -> None:
        """All texts in one table."""
        columns = ["step", "prompt", "sample", "seed", "temperature"]
        data = [[{**row, "sample": row["text"]}[name] for name in columns] for row in rows]
        last = {name: rows[-1][name] for name in ("step", "tokens")} if rows else {}
        self._try(lambda run: run.log({"samples": self._wandb.Table(columns=[*columns], data=data), **last}))

    def checkpoint(self, path: Path) -> None:
        """Uploads weights, if `tracking.artifacts` asks for it."""
        if not self.artifacts or not path.exists():
            return

        def upload(run: Any) -> None:
            artifact = self._wandb.Artifact(f"{run.id}-{path.stem}", type="checkpoint")
            artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._try(upload)

    def finish(self, summary: dict[str, Any], exit_code: int) -> None:
        """Writes the summary and closes; never waits longer than a minute."""
        final = {theirs: summary[ours] for theirs, ours in FINAL.items() if ours in summary}
        self._try(lambda run: run.summary.update({**summary, **final}))
        self._try(lambda run: run.finish(exit_code=exit_code))
        self.run = None

    def _try(self, act: Any) -> None:
        if self.run is None:
            return
        try:
            act(self.run)
        except Exception as error:
            self.run = None
            self.complain(f"W&B stopped: {type(error).__name__}: {error}; the run goes on, its own files are whole")
