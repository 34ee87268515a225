"""Whatever is typed, and whatever its files hold: right, or one line and exit status 2, and nothing half-made.

make fuzz                       500 cases, of the seeds 0 to 499
make fuzz FIRST=500 CASES=50    50 others
"""

import os
from pathlib import Path
from random import Random

import pytest
import torch
from cases import MAKERS, WEIGHTS, Case, Samples
from tiny_runs import Done, finished, program, tiny

from gptlab.config.recipe import Recipe
from gptlab.corpus.corpus import Corpus
from gptlab.training.build import build_decoder

FIRST, COUNT = int(os.environ.get("FUZZ_FIRST", 0)), int(os.environ.get("FUZZ_CASES", 100))
STUDY_STATUSES = (0, 3)
"""What a study ends with when all is well: it is over, and whether its verdicts are."""
LONGEST_LINE = 4000
"""Letters of a refusal; a value that was typed is repeated in it."""


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """A finished run, one that has no summary yet, and a study of two arms."""
    pool = tmp_path_factory.mktemp("pool")
    unfinished = finished(*tiny(pool, "steps=8"))
    (unfinished / "summary.json").unlink()
    done = program("ablate.py", *tiny(pool, "steps=3", "attention=mha,mqa", "seeds=2", "timing=0", "name=study"))
    assert done.status in STUDY_STATUSES, done.err
    return Samples(finished(*tiny(pool, "steps=3", "seed=3")), unfinished, pool / "ablations" / "study")


def check_start(recipe: Recipe, corpus: Corpus, *_: object, **__: object) -> None:
    """Stand in for the training: build what it would train, from weights that are all finite."""
    if sum(p.numel() for p in build_decoder_of(recipe, corpus).parameters()):
        raise SystemExit(0)


def build_decoder_of(recipe: Recipe, corpus: Corpus) -> torch.nn.Module:
    """Return the decoder that training would begin with."""
    decoder = build_decoder(recipe, corpus.tokenizer.vocab, load_start=True)
    if recipe.config.get("pretrained"):
        wrong = [name for name, p in decoder.named_parameters() if not p.isfinite().all()]
        assert not wrong, f"weights that are no numbers begin a training: {wrong}"
    return decoder


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_it_is_right_or_refused_in_one_line(
    seed: int, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    random = Random(seed)
    kind = random.choices([*MAKERS], WEIGHTS)[0]
    case = MAKERS[kind](random, tmp_path, samples)
    before = list_folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    if not case.trains:
        monkeypatch.setattr("gptlab.training.run.run", check_start)
    try:
        done = program(case.program, *case.words)
        check_end(case, done, before, tmp_path)
    except BaseException as error:
        error.add_note(f"seed {seed}, {kind}; its files are in {tmp_path}: {case.command}")
        raise


def check_end(case: Case, done: Done, before: set[Path], folder: Path) -> None:
    """Check the promise."""
    diverged = case.trains and done.status == 1 and done.err.startswith("error: diverged at")
    is_study = case.program == "ablate.py"
    assert done.status in ((2, *STUDY_STATUSES) if is_study else (0, 2)) or diverged, done
    assert "Traceback" not in done.err + done.out, done
    if done.status == 2:
        lines = done.err.splitlines()
        assert lines, done
        assert all(line.startswith("error: ") and len(line) < LONGEST_LINE for line in lines), done
        assert list_folders(folder) == before, f"left half-made: {list_folders(folder) - before}"


def list_folders(folder: Path) -> set[Path]:
    """Return what a command could leave half-made: folders of runs and studies, and of the cache while it is filled."""
    return {*folder.rglob("runs/*"), *folder.rglob("ablations/*"), *folder.rglob("cache/.*"), *folder.rglob("*.tmp*")}
