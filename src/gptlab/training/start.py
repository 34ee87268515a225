"""The start of a run: the folder to resume, what is known at the start, the tracker."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import torch

from gptlab.config.factory import factory
from gptlab.config.places import read_command
from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.errors import Refused
from gptlab.model.costs import count_costs
from gptlab.model.decoder import Decoder
from gptlab.runs import tracker as tracking
from gptlab.runs.fingerprint import fingerprint_recipe
from gptlab.runs.mirror import MirroredRun, open_mirrors
from gptlab.runs.openmp import name_runtime
from gptlab.runs.outputs import count_free_bytes, find_unfinished_run
from gptlab.runs.record import (
    REMEDY,
    RunFolder,
    read_json,
    to_json,
    utc_now,
)
from gptlab.runs.wandb_environment import LONGEST_NAME, read_tags
from gptlab.training.branching.trunk import find_branch_point, start_branch
from gptlab.training.distributed.process_group import ProcessGroup
from gptlab.training.run_log import send_rows


def make_processes(recipe: Recipe) -> ProcessGroup:
    """Return the processes of a run, which its trainer makes."""
    settings = recipe.settings
    make_trainer = factory(recipe.config["trainer"], "trainer")()
    return ProcessGroup(make_trainer(max_steps=settings.steps, accumulate_grad_batches=settings.accumulate))


def find_run_to_resume(recipe: Recipe) -> Path | None:
    """Return the run folder to go on with, or None."""
    settings = recipe.settings
    if settings.resume == "auto":
        return find_unfinished_run(Path(recipe.settings.outputs), recipe.hash)
    return Path(settings.resume) if settings.resume else None


def find_trunk(recipe: Recipe, corpus: Corpus) -> tuple[Path, int] | None:
    """Return the run folder that a new run branches off, and after which step; None where it asks for none."""
    if recipe.settings.trunk is None:
        return None
    trunk = Path(recipe.settings.trunk)
    step = find_branch_point(recipe, trunk)
    if RunFolder(trunk).read_facts()["data_sha256"] != corpus.sha256:
        raise Refused(f"trunk={trunk} learned from another text; leave trunk out")
    return trunk, step


def announce_start(
    branch: tuple[Path, int] | None,
    processes: ProcessGroup,
    folder: RunFolder,
    tracker: tracking.Tracker,
    terminal: Terminal,
) -> None:
    """Print a trunk, whose rows go to the tracker too, and a number of processes that is not that of before."""
    if branch is not None:
        terminal.say(f"  branches off {branch[0].name} after step {branch[1]:,}")
        send_rows(folder, tracker)
    begun = folder.read_facts().get("processes", processes.size)  # runs of before 2026-12 do not say it
    if begun != processes.size:
        terminal.say(f"  begun in {begun}, goes on in {processes.size} processes: the same losses up to rounding")


def refuse_small_disk(recipe: Recipe, decoder: Decoder) -> None:
    """Refuse a disk that the checkpoints would fill: last, previous, the one being written, the best; and some."""
    # float32 weights and two moments, 12 bytes a parameter, three times; the best has weights alone, 4: 40 in all;
    # and 12 for each branch point
    need = (10 + 3 * len(recipe.settings.branches)) * 4 * count_costs(decoder).params + 8_000_000
    outputs = Path(recipe.settings.outputs)
    free = count_free_bytes(outputs)
    if free < need:
        raise Refused(
            f"outputs={outputs} has {free / 1e6:.1f} MB free and this run may write {need / 1e6:.1f} MB; "
            "free some, or set outputs=<folder>"
        )


FACTS_TO_RESUME = {"data_sha256": str, "id": str, "code": str, "git": str | None}
"""What run.json of every version says, by its type, and a run needs to go on."""


def refuse_other_text(folder: RunFolder, corpus: Corpus) -> None:
    """Refuse to go on with a run on another text, or with another tokenizer, than it began with."""
    facts = folder.read_facts()
    threads = facts.get("threads", 1)  # which runs of before 2026-11 lack
    kept = {key: key in facts and isinstance(facts[key], kind) for key, kind in FACTS_TO_RESUME.items()}
    kept["threads"] = isinstance(threads, int) and threads > 0
    for key in kept:
        if not kept[key]:
            raise Refused(f"{folder.path / 'run.json'}: {key} is missing or not as it was written; {REMEDY}")
    began = facts["data_sha256"]
    if began != corpus.sha256:
        raise Refused(
            f"resume={folder.path} learned from another text (sha256 {began[:8]}..., not {corpus.sha256[:8]}...); "
            "say where that is now: data.path=<path>"
        )
    # through JSON and back, as the saved one went; the path may have moved, what is behind it may not
    states = [read_json(folder.path / "tokenizer.json"), json.loads(to_json(corpus.tokenizer.state()))]
    if any({**state, "path": None} != {**states[0], "path": None} for state in states):
        raise Refused(
            f"resume={folder.path} began with another tokenizer; say where that is now: tokenizer.path=<path>"
        )


def write_start(recipe: Recipe, folder: RunFolder, corpus: Corpus, branch: tuple[Path, int] | None = None) -> None:
    """Write what is known at the start of a run, and what a branch takes from a trunk after a step."""
    # ids of W&B take no colons
    stamp = utc_now().translate(str.maketrans("", "", "-:"))
    folder.write_start(
        recipe,
        corpus.tokenizer.state(),
        id=f"{recipe.hash}-s{recipe.settings.seed}-{stamp}{folder.path.name.removeprefix(recipe.folder)}",
        command=shlex.join(read_command()),
        choices=recipe.choices,
        differs=recipe.differs,
        hash=recipe.hash,
        code=fingerprint_recipe(recipe),
        git=read_git_commit(),
        cwd=str(Path.cwd()),
        data_sha256=corpus.sha256,
        train_tokens=corpus.train_tokens,
        validation_tokens=len(corpus.validation),
        torch=torch.__version__,
        lightning=lightning.__version__,
        python=sys.version.split()[0],
        openmp=name_runtime(),
        threads=torch.get_num_threads(),
        processes=recipe.config["trainer"]["devices"] * recipe.config["trainer"]["nodes"],
    )
    if branch is not None:
        start_branch(folder, *branch)


def read_git_commit() -> str:
    """Return the short git commit of the sources, with + if they were changed since; empty outside a repository."""
    # --exclude=*: never a tag's name, always the commit
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=8", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def open_tracker(
    recipe: Recipe, folder: RunFolder, decoder: Decoder, mode: str, terminal: Terminal, *, resumed: bool
) -> tracking.Tracker:
    """Open the run in W&B.

    Every slot's choice is a flat key of its config, so that panels can group by it. A run that is never evaluated on
    its way is tagged `smoke`: it only shows that it runs.
    """
    settings, facts = recipe.settings, folder.read_facts()
    choices = {slot: "+".join(v) if isinstance(v, list) else v for slot, v in recipe.choices.items()}
    experiment = str(choices.get("experiment") or "")
    size, variant = str(choices.get("model", "custom")), "-".join(recipe.differs) or "default"
    kind = "full" if settings.steps > settings.evaluation.every else "smoke"
    tags = [*settings.tracking.tags, *read_tags(), experiment, size, variant, kind, facts["git"]]
    identity = {
        "id": facts["id"],
        "name": (settings.name or os.environ.get("WANDB_NAME") or recipe.label)[:LONGEST_NAME],
        "group": settings.tracking.group,
        "job_type": "train",
        "tags": list(dict.fromkeys(tag[:64] for tag in tags if tag)),
        "config": {
            "cfg": recipe.config,
            **choices,
            "size": size,
            "variant": variant,
            "seed": settings.seed,
            "n_params": count_costs(decoder).params,
            "tokens_budget": settings.steps * settings.batch_size * settings.model.context,
            "data_sha256": facts["data_sha256"],
            "code": facts["code"],
            "git": facts["git"],
        },
    }
    tracker = tracking.Tracker(
        mode, Path(recipe.settings.outputs), settings.tracking, identity, resumed=resumed, warn=terminal.say
    )
    tracker.define_axes()
    mirrored = MirroredRun(
        outputs=Path(recipe.settings.outputs),
        project=settings.tracking.project,
        id=facts["id"],
        name=identity["name"],
        group=settings.tracking.group,
        config=_flatten_config(recipe, identity["config"]),
    )
    if settings.tracking.mode != "disabled":
        tracker.mirrors = open_mirrors(settings.tracking.to, mirrored)
    return tracker


def _flatten_config(recipe: Recipe, config: dict[str, Any]) -> dict[str, Any]:
    """Return the flat config for mirrors, which take no nested one: choices, sizes, knobs that runs are sorted by."""
    settings, rate = recipe.settings, recipe.config["optimizer"].get("lr")
    knobs = {"steps": settings.steps, "batch_size": settings.batch_size, "optimizer.lr": rate}
    return {key: value for key, value in (config | knobs).items() if key != "cfg" and value is not None}
