"""Laws of one run: what it leaves, what it counts, what it repeats, and how it ends when it cannot go on."""

import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_runs import Done, ended, finished, numbers, rows, start, summary, tiny, train

import gptlab.training.evaluate
import gptlab.training.run
from gptlab import compose as wiring
from gptlab.config.recipe import Recipe
from gptlab.corpus.batch import Batch
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.load import read_corpus
from gptlab.errors import Refused
from gptlab.model.forward_pass import Output
from gptlab.model.rng import derive_seed
from gptlab.model.shape import IGNORED
from gptlab.stats.summary_keys import find_key
from gptlab.training.build import build_decoder
from gptlab.training.evaluate import evaluate
from gptlab.training.task import Task

FILES = (
    "run.json config.yaml tokenizer.json metrics.jsonl samples.jsonl evaluation.npz checkpoints log.txt summary.json"
)
KEYS = (
    "status seed steps tokens params flops_per_token cache_bytes_per_token hash code data_sha256 torch lightning "
    "python device started ended id val/loss val/loss_best val/perplexity val/bits_per_byte val/token_accuracy "
    "time/total_s time/start_s time/train_s time/evaluate_s time/samples_s time/step_ms_median "
    "time/generate_ms_per_token throughput/tokens_per_s memory/peak_bytes attention/kernel "
    "schedule/mean_factor"
)


def losses(folder: Path) -> list[float]:
    """The training losses of a run."""
    return [row["train/loss"] for row in rows(folder / "metrics.jsonl") if "train/loss" in row]


def world(*overrides: str) -> tuple[Recipe, Corpus]:
    """The recipe and corpus of a run."""
    recipe = wiring.compose(list(overrides))
    return recipe, read_corpus(recipe)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One small run, with samples."""
    return train(*tiny(tmp_path_factory.mktemp("whole"), "sample.count=3"))


# -- what it leaves


def test_a_run_says_what_it_is_and_names_its_folder_last(whole: Done):
    assert (whole.status, whole.err) == (0, "")
    assert whole.folder.is_dir()
    head = whole.out.split("step ")[0]
    for said in ("parameters", "FLOPs/token", "tokens to learn from", "cpu, 1 thread", "5 minutes would fit"):
        assert said in head


def test_a_run_leaves_all_its_files_and_no_part(whole: Done):
    left = {file.name for file in whole.folder.iterdir()}
    assert left - {".lock"} == set(FILES.split())
    assert {file.name for file in whole.folder.glob("checkpoints/*")} == {"last.ckpt", "previous.ckpt", "best.ckpt"}


def test_summary_is_flat_and_whole(whole: Done):
    found = summary(whole.folder)
    assert set(KEYS.split()) <= set(found)
    assert [key for key in found if find_key(key) is None] == []  # each is declared
    assert found["status"] == "finished"
    assert all(isinstance(value, str | int | float) for value in found.values())  # no null, which NaN becomes
    assert (found["steps"], found["tokens"]) == (40, 40 * 8 * 16)
    assert found["time/train_s"] + found["time/evaluate_s"] + found["time/samples_s"] < found["time/total_s"]


def test_every_target_is_scored_once_and_their_mean_is_the_loss(whole: Done):
    _, corpus = world(*tiny(whole.folder.parents[1]))
    nats, found = np.load(whole.folder / "evaluation.npz")["nats"], summary(whole.folder)
    assert nats.shape == (len(corpus.validation) - 1,)
    assert nats.astype(np.float64).mean() == pytest.approx(found["val/loss"], rel=1e-12)
    assert np.exp(found["val/loss"]) == pytest.approx(found["val/perplexity"])
    assert found["val/loss"] / np.log(2) == pytest.approx(found["val/bits_per_byte"])  # in ASCII, by characters


def test_rows_of_metrics_have_their_axes_and_never_go_back(whole: Done):
    metrics = rows(whole.folder / "metrics.jsonl")
    assert [row["step"] for row in metrics if "train/loss" in row] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [row["step"] for row in metrics if "val/loss" in row] == [20, 40]
    assert [row["step"] for row in metrics] == sorted(row["step"] for row in metrics)
    assert all(row["tokens"] == row["step"] * 8 * 16 for row in metrics)
    assert losses(whole.folder)[-1] < losses(whole.folder)[0] - 0.1


def test_samples_are_as_many_and_as_long_as_asked(whole: Done):
    samples = rows(whole.folder / "samples.jsonl")
    assert [row["step"] for row in samples] == [20, 40, 40, 40]
    assert all(len(row["text"]) == 8 for row in samples)
    assert len({row["text"] for row in samples}) > 1


def test_the_same_command_in_another_process_computes_the_same_and_overwrites_nothing(whole: Done):
    before = {file: file.read_bytes() for file in whole.folder.rglob("*") if file.is_file()}
    again = ended(start(*tiny(whole.folder.parents[1], "sample.count=3")))
    assert (again.status, again.err) == (0, "")
    assert again.folder.name == f"{whole.folder.name}-2"
    assert numbers(again.folder) == numbers(whole.folder)
    assert all(file.read_bytes() == content for file, content in before.items())


def test_another_seed_computes_something_else(whole: Done, tmp_path: Path):
    first, second = losses(whole.folder), losses(finished(*tiny(tmp_path, "seed=1")))
    assert all(one != other for one, other in zip(first, second, strict=True))


# -- what it computes


def test_first_loss_is_that_of_the_first_batch_by_hand(tmp_path: Path):
    overrides = tiny(tmp_path, "log_every=1", "steps=2", "dropout=0.3")
    (recipe, corpus), found = world(*overrides), losses(finished(*overrides))
    decoder, batch = build_decoder(recipe, corpus.tokenizer.vocab), torch.from_numpy(corpus.batch(0, 0, 8, 16))
    torch.manual_seed(derive_seed(0, 0, 0, 0))
    assert decoder.train()(batch[:, :-1], batch[:, 1:]).loss.item() == found[0]


def test_probe_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    true, seen = gptlab.training.run.probe_run, []

    def watched(context: Any, setup: Any, *parts: Any) -> Any:
        decoder, random = setup.decoder, torch.get_rng_state()
        before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
        measured = true(context, setup, *parts)
        seen.append(all((tensor == before[name]).all() for name, tensor in decoder.state_dict().items()))
        seen.append(all(p.grad is None for p in decoder.parameters()))
        seen.append(bool((torch.get_rng_state() == random).all()))
        return measured

    monkeypatch.setattr(gptlab.training.run, "probe_run", watched)
    finished(*tiny(tmp_path, "steps=1", "dropout=0.3"))
    assert seen == [True, True, True]


@pytest.mark.parametrize("accumulate", [2, 8])
def test_micro_batches_add_up_to_the_batch(whole: Done, tmp_path: Path, accumulate: int):
    folder = finished(*tiny(tmp_path, f"accumulate={accumulate}"))
    pairs = zip(rows(whole.folder / "metrics.jsonl"), rows(folder / "metrics.jsonl"), strict=True)
    for key in ("train/loss", "train/gradient_norm", "val/loss", "lr"):
        assert all(one[key] == pytest.approx(other[key], abs=1e-5) for one, other in pairs if key in one)


def test_micro_batches_that_do_not_make_a_batch_are_refused(tmp_path: Path):
    done = train(*tiny(tmp_path, "accumulate=3"))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: accumulate=3 does not divide batch_size=8")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("logits", [1, 3000, 2**23])
def test_scores_do_not_depend_on_how_many_windows_are_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logits: int
):
    recipe, corpus = world(*tiny(tmp_path))
    decoder = build_decoder(recipe, corpus.tokenizer.vocab)
    windows, lengths = corpus.windows(16), corpus.tokenizer.lengths()
    whole = evaluate(decoder, *windows, lengths)
    monkeypatch.setattr(gptlab.training.evaluate, "MAX_LOGITS", logits)
    monkeypatch.setattr(gptlab.training.evaluate, "MAX_TOKENS", logits)
    parts = evaluate(decoder, *windows, lengths)
    torch.testing.assert_close(parts.nats, whole.nats)
    assert (parts.target.numpy() == corpus.validation[1:]).all()
    assert len(whole.nats) == len(corpus.validation) - 1


def test_all_contexts_are_judged_by_the_same_targets(tmp_path: Path):
    def targets(context: int) -> list[int]:
        recipe, corpus = world(*tiny(tmp_path, f"model.context={context}"))
        decoder = build_decoder(recipe, corpus.tokenizer.vocab)
        return evaluate(decoder, *corpus.windows(context), corpus.tokenizer.lengths()).target.tolist()

    assert targets(1) == targets(7) == targets(16) == targets(100)


# -- how it ends


@pytest.mark.thorough
def test_max_minutes_ends_in_time_with_the_schedule_at_its_end(tmp_path: Path):
    done = train(
        *tiny(
            tmp_path,
            "max_minutes=0.07",
            "steps=100000",
            "evaluation.every=100000",
            "schedule=linear",
            "schedule.floor=0",
        )
    )
    assert done.status == 0, done.err
    assert "ended after 0.07 min" in done.out
    found, metrics = summary(done.folder), rows(done.folder / "metrics.jsonl")
    assert found["status"] == "finished"
    assert 0.6 * 4.2 < found["time/total_s"] < 4.2
    assert 0 < found["steps"] < 100_000
    assert metrics[-2]["step"] == metrics[-1]["step"] == found["steps"]
    rates = [row["lr"] for row in metrics if "lr" in row]
    assert rates[-1] < 0.02 * max(rates)  # ends at 0


def test_max_minutes_that_leaves_none_is_refused(tmp_path: Path):
    done = train(*tiny(tmp_path, "max_minutes=0.0001"))
    assert done.status == 2
    assert re.fullmatch(r"error: max_minutes=0.0001 leaves no time to train: .*\n", done.err)


def diverged(done: Done, *words: str) -> None:
    """A run that ended by divergence says so in each place, in words."""
    assert done.status == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: diverged at step ")
    found = summary(done.folder)
    assert found["status"] == "diverged"
    for word in words:
        assert word in done.err
        assert word in found["reason"]
    for file in done.folder.glob("*.jsonl"):
        assert all(value is not None for row in rows(file) for value in row.values())


def test_a_wild_rate_ends_the_run_before_its_numbers_do(tmp_path: Path):
    diverged(train(*tiny(tmp_path, "optimizer.lr=3", "schedule=constant")), "the loss rose to", "at birth")


@pytest.mark.parametrize("rate", ["1e10", "1e38"])
def test_a_run_whose_last_step_was_wild_does_not_finish(tmp_path: Path, rate: str):
    diverged(train(*tiny(tmp_path, f"optimizer.lr={rate}", "steps=1", "schedule.warmup=0")), "step 1")


def test_a_wild_step_before_an_interim_evaluation_ends_the_run(tmp_path: Path):
    diverged(train(*tiny(tmp_path, "optimizer.lr=1e38", "evaluation.every=1", "schedule.warmup=0")), "step 1")


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("weight", float("nan"), ["step 6", "weight blocks.0.mlp.out.weight"]),
        ("weight", float("inf"), ["step 6", "weight blocks.0.mlp.out.weight"]),
        ("output", float("nan"), ["step 6", "output of blocks.0.attention"]),
        ("gradient", float("nan"), ["step 6", "gradient of embedding.weight"]),
        ("gradient", 3e38, ["step 6", "norm of the gradient"]),
    ],
)
def test_the_first_bad_tensor_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, value: float, words: list[str]
):
    true = Task.training_step

    def planted(task: Task, batch: Batch, index: int) -> torch.Tensor:
        if index == 5 and what == "weight":
            task.decoder.get_parameter("blocks.0.mlp.out.weight").data[0, 0] = value
        if index == 5 and what == "output":
            task.decoder.get_submodule("blocks.0.attention").register_forward_hook(lambda *_: _[2] * value)
        if index == 5 and what == "gradient":
            task.decoder.embedding.weight.register_hook(lambda gradient: torch.full_like(gradient, value))
        return true(task, batch, index)

    monkeypatch.setattr(Task, "training_step", planted)
    diverged(train(*tiny(tmp_path)), *words)


def test_an_error_leaves_its_traceback_in_the_log_and_no_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(gptlab.training.run, "write_final_samples", broken)
    with pytest.raises(ZeroDivisionError):
        train(*tiny(tmp_path))
    folder = next((tmp_path / "runs").iterdir())
    assert not (folder / "summary.json").exists()
    assert "in broken" in (folder / "log.txt").read_text()


def test_what_is_refused_after_training_keeps_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise Refused("the prompt has no such token; give another")

    monkeypatch.setattr(gptlab.training.run, "write_final_samples", refuse)
    done = train(*tiny(tmp_path))
    (folder,) = (tmp_path / "runs").iterdir()
    line = f"error: the prompt has no such token; give another; what was trained is kept in {folder}\n"
    assert (done.status, done.err) == (2, line)
    assert "Refused: the prompt has no such token" in (folder / "log.txt").read_text()
    monkeypatch.undo()
    assert summary(finished(f"resume={folder}"))["status"] == "finished"


@pytest.mark.parametrize("knob", [f"vocab_multiple={2**50}", f"batch_size={2**46}", f"batch_size={2**62}"])
def test_what_memory_has_no_room_for_is_refused_in_one_line_and_leaves_nothing(knob: str, tmp_path: Path):
    done = train(*tiny(tmp_path, knob))
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("error: memory has no room ")
    assert "give a smaller batch_size, model.width, model.context or vocabulary" in done.err
    assert not list(tmp_path.glob("runs/*"))


def test_no_run_takes_the_signals_with_it(tmp_path: Path):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    train(*tiny(tmp_path, "optimizer.lr=1e10"))
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_shuffled_targets_are_those_of_the_batch_in_an_order_of_the_step():
    seen: list[torch.Tensor] = []

    class Decoder(torch.nn.Module):
        shape = SimpleNamespace(vocab=40)

        def forward(self, tokens: torch.Tensor, targets: torch.Tensor, documents: None = None) -> Output:
            seen.append(targets)
            return Output(None, torch.tensor(1.0), {}, {})

    targets = torch.arange(40).view(4, 10)
    targets[1, 2:5] = IGNORED
    batch = Batch(torch.zeros_like(targets), targets)
    for shuffle in (False, True, True):
        task = Task(cast(Any, Decoder()), cast(Any, None), cast(Any, None), seed=3, steps=1, shuffle_targets=shuffle)
        task._trainer = cast(Any, SimpleNamespace(world_size=1, global_rank=0, global_step=0))
        task.training_step(batch, 0)
    plain, first, again = seen
    assert plain.equal(targets)
    assert not first.equal(plain)
    assert first.equal(again)
    assert (first == IGNORED).equal(plain == IGNORED)  # what is not asked stays where it is
    assert first.flatten().sort().values.equal(plain.flatten().sort().values)
