"""Tasks of lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness) on our decoders."""

import difflib
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

MAX_REASON = 160
"""Characters of another library's error."""


def refuse_missing_harness() -> None:
    """Raise Refused where the library is not installed."""
    if find_spec("lm_eval") is None:
        raise Refused("--tasks: lm_eval is not installed here; run: pip install 'gptlab[evaluation]'")


def refuse_unknown_tasks(names: Sequence[str], include_path: Path | None) -> None:
    """Raise Refused for a name that no YAML of tasks holds, before the library takes its time to read them all.

    The texts are searched as they are, which takes a second or two where parsing them takes most of a minute. A name
    that stands somewhere and is no task is refused by `load_task`.
    """
    missing, known = set(names), set[str]()
    spec = find_spec("lm_eval")
    own = [str(include_path)] if include_path else []
    for folder in [*own, *(os.path.join(home, "tasks") for home in (spec and spec.submodule_search_locations) or ())]:
        for text in _read_yamls(folder):
            missing -= {name for name in missing if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text)}
            if not missing:
                return
            known.update(re.findall(r"^(?:task|group|tag) *: *[\"']?([\w.-]+)", text, re.MULTILINE))
    for name in sorted(missing):
        raise Refused(explain_unknown_task(name, known))


def _read_yamls(folder: str) -> Iterator[str]:
    """Yield the texts of all YAMLs below a folder; some that others include end in `_yaml`."""
    for home, _, files in os.walk(folder):
        for file in files:
            if file.endswith(("yaml", "yml")):
                yield Path(home, file).read_text(encoding="utf-8", errors="replace")


def explain_unknown_task(name: str, known: Iterable[str]) -> str:
    """Return the line that refuses a name, with the nearest ones."""
    near = difflib.get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else "lm_eval ls tasks lists them"
    return f"--tasks={name}: there is no such task here; {hint} (--include-path: tasks of your own)"


def evaluate_tasks(
    decoder: "Decoder",
    tokenizer: Tokenizer,
    names: Sequence[str],
    *,
    include_path: Path | None = None,
    max_rows: int,
    shots: int | None = None,
    limit: int | None = None,
    keep_samples: bool = False,
) -> dict[str, Any]:
    """Return the harness's results of tasks or groups of tasks, as `simple_evaluate` does.

    include_path  a folder of YAMLs of tasks, before the harness's own
    shots         examples before each question; None as the task says
    limit         documents of each task at most
    keep_samples  add `samples`, every document with its responses
    """
    refuse_missing_harness()
    with quiet_libraries():
        import lm_eval  # type: ignore[import-not-found]
        from lm_eval.tasks import TaskManager  # type: ignore[import-not-found]

        from gptlab.commands.evaluation.language_model import DecoderLM

        # the harness's own 14,000 YAMLs take ten seconds and more to be read: only if one's own folder is not enough
        manager = TaskManager(include_path=str(include_path), include_defaults=False) if include_path else None
        if manager is None or not {*names} <= {*manager.all_tasks}:
            manager = TaskManager(include_path=str(include_path) if include_path else None)
        for name in names:
            load_task(manager, name)
        model = DecoderLM(decoder, tokenizer, max_rows)
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=[*names],
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            log_samples=keep_samples,
        )
    return {**results, "lost": model.lost}


def load_task(manager: Any, name: str) -> None:
    """Load one task, for its refusal: an unknown name, or data that cannot be had."""
    if name not in manager.all_tasks:
        raise Refused(explain_unknown_task(name, manager.all_tasks))
    try:
        manager.load([name])
    except Exception as error:  # of the hub, of datasets, of a task's own code
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise Refused(
            f"--tasks={name}: its data cannot be read ({type(error).__name__}: {reason}); copy them here, "
            "and name the files in a YAML of your own with --include-path"
        ) from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep what the harness, datasets and git print away: refusals are one line, and the bar is our own."""
    names = ("lm_eval", "lm-eval", "datasets", "evaluate", "huggingface_hub", "httpx")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # below Python, since the harness starts git
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def list_values(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the numbers of each task and group: metric, its filter where there is one, its value and standard error.

    The harness's keys are "acc,none" and "acc_stderr,none"; "N/A" is None here.
    """
    tasks = {}
    for name, row in {**results["results"], **results.get("groups", {})}.items():
        metrics: dict[str, dict[str, Any]] = {}
        is_higher_better = results.get("higher_is_better", {}).get(name, {})
        for key, value in row.items():
            metric, _, filter_name = key.partition(",")
            if not filter_name or metric.endswith("_stderr"):
                continue
            error = row.get(f"{metric}_stderr,{filter_name}")
            label = metric if filter_name == "none" else f"{metric} ({filter_name})"
            metrics[label] = {
                "value": value,
                "error": error if isinstance(error, int | float) else None,
                "better": "higher" if is_higher_better.get(metric, True) else "lower",
            }
        counts = results.get("n-samples", {}).get(name, {})
        tasks[name] = {
            "metrics": metrics,
            "documents": counts.get("effective"),
            "of": counts.get("original"),
            "shots": results.get("n-shot", {}).get(name),
            "version": results.get("versions", {}).get(name),
        }
    return tasks
