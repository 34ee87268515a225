"""The opening of a run: its folder, what is known at the start, its mirror."""

import shlex
import subprocess
import sys
from pathlib import Path

import lightning
import torch

from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.runs import tracker as tracking
from gptlab.runs.fingerprint import fingerprint_recipe
from gptlab.runs.record import RunFolder, count_free_bytes, find_unfinished_run, utc_now
from gptlab.training.session import outputs


def to_resume(recipe: Recipe) -> Path | None:
    """The folder to go on with, or none."""
    settings = recipe.settings
    if settings.resume == "auto":
        return find_unfinished_run(outputs(recipe), recipe.hash)
    return Path(settings.resume) if settings.resume else None


def refuse_small_disk(recipe: Recipe, decoder: Decoder) -> None:
    """Weights and two moments, for last, previous and the one being written; the best weights; and some."""
    need = 10 * 4 * sum(p.numel() for p in decoder.parameters()) + 8_000_000
    free = count_free_bytes(outputs(recipe))
    if free < need:
        raise Refused(
            f"outputs={outputs(recipe)} has {free / 1e6:.1f} MB free and this run may write {need / 1e6:.1f} MB; "
            "free some, or set outputs=<folder>"
        )


def begin(recipe: Recipe, record: RunFolder, corpus: Corpus) -> None:
    """Writes what is known at the start."""
    stamp = utc_now().translate(str.maketrans("", "", "-:"))
    record.write_start(
        recipe,
        corpus.tokenizer.state(),
        id=f"{recipe.hash}-s{recipe.settings.seed}-{stamp}{record.path.name.removeprefix(recipe.folder)}",
        command=shlex.join(["python", *sys.argv]),
        choices=recipe.choices,
        differs=recipe.differs,
        hash=recipe.hash,
        code=fingerprint_recipe(recipe),
        git=commit(),
        cwd=str(Path.cwd()),
        data_sha256=corpus.sha256,
        train_tokens=len(corpus.train),
        validation_tokens=len(corpus.validation),
        torch=torch.__version__,
        lightning=lightning.__version__,
        python=sys.version.split()[0],
    )


def commit() -> str:
    """The short git commit of the sources, with + if they were changed since; empty outside a repository."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here), "describe", "--always", "--abbrev=8", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def open_mirror(recipe: Recipe, record: RunFolder, decoder: Decoder, mode: str, terminal: Terminal, resumed: bool):
    """W&B's run: every slot's choice is a flat key of its config, so that panels can group by it. A run that is never
    evaluated on its way is tagged `smoke`: it only shows that it runs."""
    settings, facts = recipe.settings, record.read_facts()
    choices = {slot: "+".join(v) if isinstance(v, list) else v for slot, v in recipe.choices.items()}
    experiment = str(choices.get("experiment") or "")
    size, variant = str(choices.get("model", "custom")), "-".join(recipe.differs) or "default"
    kind = "full" if settings.steps > settings.evaluation.every else "smoke"
    tags = [*settings.tracking.tags, experiment, size, variant, kind, facts["git"]]
    identity = {
        "id": facts["id"],
        "name": settings.name or recipe.label,
        "group": settings.tracking.group,
        "job_type": "train",
        "tags": list(dict.fromkeys(tag[:64] for tag in tags if tag)),
        "config": {
            "cfg": recipe.config,
            **choices,
            "size": size,
            "variant": variant,
            "seed": settings.seed,
            "n_params": sum(p.numel() for p in decoder.parameters()),
            "tokens_budget": settings.steps * settings.batch_size * settings.model.context,
            "data_sha256": facts["data_sha256"],
            "code": facts["code"],
            "git": facts["git"],
        },
    }
    mirror = tracking.Tracker(mode, outputs(recipe), settings.tracking, identity, resumed, terminal.say)
    mirror.define_axes()
    return mirror
