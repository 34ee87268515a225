"""One run, from a checked recipe to a finished run folder."""

import errno
import logging
import resource
import shlex
import shutil
import signal
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from gptlab import checkpoint, tracking
from gptlab.attend import watch
from gptlab.corpus import Corpus, read
from gptlab.evaluate import evaluate
from gptlab.factory import factory
from gptlab.feed import Feed
from gptlab.fingerprint import fingerprint
from gptlab.generate import generate
from gptlab.metric import Scores, TokenMetric
from gptlab.recipe import SLOTS, Recipe, flat
from gptlab.record import Record, now, rows, unfinished
from gptlab.refused import Ended, Refused
from gptlab.rounds import Rounds
from gptlab.task import Diverged, Task
from gptlab.terminal import Terminal, duration, spark
from gptlab.wiring import build

TRAINING = 3
"""A backward pass costs twice a forward pass."""


def run(recipe: Recipe) -> Path:
    """Trains, evaluates, samples, records; goes on with a run if `resume` says so. Returns the run's folder."""
    began = time.monotonic()
    hush()
    mode = tracking.decide(recipe.settings.tracking)
    corpus = read_corpus(recipe)
    encode_prompt(recipe, corpus)
    decoder = build(recipe, corpus.tokenizer.vocab)
    refuse_small_disk(recipe, decoder)
    folder = to_resume(recipe)
    record = Record(folder) if folder else Record.create(recipe)
    with record.locked():
        if folder is None:
            begin(recipe, record, corpus)
        elif record.facts()["data_sha256"] != corpus.sha256:
            raise Refused(f"resume={folder} learned from another text (sha256 {record.facts()['data_sha256'][:8]}...)")
        Work(recipe, record, corpus, decoder, mode, began, fresh=folder is None).whole()
    return record.folder


def hush() -> None:
    """Lightning's advertisements, and a deprecation inside it that its users cannot mend (2.6.6)."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def to_resume(recipe: Recipe) -> Path | None:
    """The folder to go on with, or none."""
    settings = recipe.settings
    if settings.resume == "auto":
        return unfinished(Path(settings.outputs), recipe.hash)
    return Path(settings.resume) if settings.resume else None


def read_corpus(recipe: Recipe) -> Corpus:
    """The text and tokenizer of a recipe."""
    config = recipe.config
    data = factory(config["data"], "data")()
    return read(data, factory(config["tokenizer"], "tokenizer"), recipe.settings.model.context)


def encode_prompt(recipe: Recipe, corpus: Corpus) -> np.ndarray:
    """The prompt of samples as tokens; refused where the tokenizer does not know it."""
    prompt = recipe.settings.sample.prompt
    if prompt is not None:
        try:
            tokens = corpus.tokenizer.encode(prompt)
        except Refused as refused:
            raise Refused(f"sample.prompt={prompt!r}: {refused}") from refused
        if not len(tokens):
            raise Refused("sample.prompt is empty; give a text, or null")
        return tokens
    try:
        return corpus.tokenizer.encode("\n")
    except Refused:
        return np.zeros(1, np.int64)


def refuse_small_disk(recipe: Recipe, decoder: torch.nn.Module) -> None:
    """Weights and two moments, for last, previous and the one being written; and the best weights; and some."""
    outputs = Path(recipe.settings.outputs).absolute()
    nearest = next(path for path in (outputs, *outputs.parents) if path.exists())
    need = 10 * 4 * sum(p.numel() for p in decoder.parameters()) + 8_000_000
    free = shutil.disk_usage(nearest).free
    if free < need:
        raise Refused(
            f"outputs={recipe.settings.outputs} has {free / 1e6:.1f} MB free and this run may write {need / 1e6:.1f} MB; "
            "free some, or set outputs=<folder>"
        )


def begin(recipe: Recipe, record: Record, corpus: Corpus) -> None:
    """Writes what is known at the start."""
    record.begin(
        recipe,
        corpus.tokenizer.state(),
        id=f"{recipe.hash}-s{recipe.settings.seed}-{now().translate(str.maketrans('', '', '-:'))}",
        command=shlex.join(["python", *sys.argv]),
        choices=recipe.choices,
        differs=recipe.differs,
        hash=recipe.hash,
        code=code(recipe),
        data_sha256=corpus.sha256,
        torch=torch.__version__,
        lightning=lightning.__version__,
        python=sys.version.split()[0],
    )


def code(recipe: Recipe) -> str:
    """The fingerprint of the code behind a recipe."""
    targets = [v for slot in SLOTS for k, v in flat(recipe.config[slot]).items() if k.endswith("_target_")]
    return fingerprint(["gptlab.task", "gptlab.evaluate", "gptlab.corpus", *(t.rpartition(".")[0] for t in targets)])


class Work:
    """The stages of one run."""

    def __init__(self, recipe, record, corpus, decoder, mode, began, fresh) -> None:
        self.recipe, self.record, self.corpus, self.decoder = recipe, record, corpus, decoder
        self.settings, self.began, self.fresh = recipe.settings, began, fresh
        self.facts = record.facts()
        self.terminal = Terminal(record)
        self.mirror = self.open_mirror(mode)
        self.times: dict[str, float] = {}

    def open_mirror(self, mode: str) -> tracking.Mirror:
        settings, recipe = self.settings, self.recipe
        flat_choices = {k: "+".join(v) if isinstance(v, list) else v for k, v in recipe.choices.items()}
        identity = {
            "id": self.facts["id"],
            "name": settings.name or self.record.folder.name,
            "tags": [*settings.tracking.tags, str(flat_choices.get("model", "custom"))],
            "config": {
                "cfg": recipe.config,
                **flat_choices,
                "size": flat_choices.get("model"),
                "variant": "-".join(recipe.differs) or "default",
                "seed": settings.seed,
                "n_params": count(self.decoder),
                "tokens_budget": settings.steps * settings.batch_size * settings.model.context,
                "data_sha256": self.corpus.sha256,
                "code": self.facts["code"],
            },
        }
        mirror = tracking.Mirror(mode, Path(settings.outputs), settings.tracking, identity, resumed=not self.fresh)
        mirror.complain = self.terminal.say
        return mirror

    def whole(self) -> None:
        """All stages; whatever happens, the mirror is closed and the last line names the folder."""
        status = 1
        summary: dict[str, Any] = {}
        try:
            summary = self.stages()
            status = 0
        except Diverged as error:
            summary = {**self.known(), "status": "diverged", "reason": str(error)}
            self.record.finish(summary)
            raise Ended(f"diverged at {error}") from error
        except Ended as ended:
            status, summary = ended.status, {"status": "interrupted"}
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self.record.log_error(error)
                raise
            raise Ended(f"the disk is full; free some, then {self.how_to_go_on()}") from error
        except BaseException as error:
            self.record.log_error(error)
            summary = {"status": "failed"}
            raise
        finally:
            self.mirror.finish(summary, status)
            print(self.record.folder)

    def stages(self) -> dict[str, Any]:
        self.prepare()
        self.introduce()
        self.fit()
        scores = self.score()
        texts = self.draw()
        summary = self.summarize(scores, texts)
        self.record.finish(summary)
        return summary

    # -- before

    def prepare(self) -> None:
        settings, config = self.settings, self.recipe.config
        self.feed = Feed(
            self.corpus,
            seed=settings.seed,
            batch_size=settings.batch_size,
            context=settings.model.context,
            accumulate=settings.accumulate,
        )
        self.task = Task(
            self.decoder,
            factory(config["optimizer"], "optimizer"),
            factory(config["schedule"], "schedule")(),
            seed=settings.seed,
            steps=settings.steps,
            accumulate=settings.accumulate,
            clip=settings.clip,
        )
        self.metrics: dict[str, TokenMetric] = {
            name: factory(node, f"metric.{name}")() for name, node in config["metric"].items()
        }
        self.rounds = Rounds(
            settings, self.record, self.mirror, self.terminal, self.evaluate_some, lambda step: self.write_one()
        )
        self.trainer = factory(config["trainer"], "trainer")(max_steps=settings.steps, callbacks=[self.rounds])
        self.device = self.trainer.strategy.root_device
        self.decoder.to(self.device)
        self.lengths = self.corpus.tokenizer.lengths()
        self.some = self.corpus.windows(settings.model.context, settings.evaluation.tokens)
        self.all = self.corpus.windows(settings.model.context)
        self.prompt = torch.from_numpy(encode_prompt(self.recipe, self.corpus).astype(np.int64)).to(self.device)
        if settings.compile == "on" or (settings.compile == "auto" and self.device.type == "cuda"):
            self.decoder.compile()

    def introduce(self) -> None:
        """Says what the run is and how long it will take here."""
        settings, model, say = self.settings, self.settings.model, self.terminal.fact
        self.probe()
        steps, tokens = settings.steps, settings.steps * settings.batch_size * model.context
        self.terminal.say(f"[bold]{self.record.folder.name}[/]")
        parts = [f"{slot} {self.recipe.choices.get(slot)}" for slot in SLOTS[:8]]
        say(
            "decoder",
            f"{model.layers} layers x {model.width} wide x {model.heads} heads, context {model.context}: "
            f"{count(self.decoder):,} parameters, {self.flops_per_token / 1e6:.2f} MFLOPs/token to train",
            f"[dim]{', '.join(parts)}[/]",
        )
        train, validation = self.corpus.train, self.corpus.validation
        say(
            "data",
            f"{self.recipe.choices.get('data')}: {len(train):,} tokens to learn from, {len(validation):,} to be judged by, "
            f"vocabulary {self.corpus.tokenizer.vocab} ({self.recipe.choices.get('tokenizer')})",
        )
        say(
            "recipe",
            f"{steps:,} steps x {settings.batch_size} x {model.context} = {tokens / 1e6:.1f} M tokens, "
            f"{tokens / len(train):.1f} epochs; {self.recipe.choices.get('optimizer')} at "
            f"{self.recipe.config['optimizer']['lr']:g}, {self.recipe.choices.get('schedule')}",
        )
        say(
            "device",
            f"{self.device_name()}, torch {torch.__version__}, attention by {' and '.join(self.kernels)}, "
            f"W&B {self.settings.tracking.mode if self.mirror.run is not None else 'disabled'}",
        )
        fit = int(300 / self.step_s)
        whole = steps * self.step_s + self.overhead_s
        bound = f", stopped after {settings.max_minutes:g} min at most" if settings.max_minutes else ""
        say("time", f"{self.step_s * 1000:.0f} ms a step: about {duration(whole)}{bound}; 5 minutes would fit {fit:,} steps")
        if settings.max_minutes is not None and self.task.seconds is None:
            spent = time.monotonic() - self.began
            left = settings.max_minutes * 60 - spent - 1.2 * self.final_s
            if left < 3 * self.step_s:
                raise Refused(
                    f"max_minutes={settings.max_minutes:g} leaves no time to train: start and final evaluation take "
                    f"{spent + 1.2 * self.final_s:.0f} s here"
                )
            self.task.seconds = left

    def probe(self) -> None:
        """Measures a training step and a forward pass on the real decoder, and leaves no trace in it."""
        context = self.settings.model.context
        batch = self.feed.batch(0).to(self.device)
        with watch() as names, torch.no_grad():
            type(self.decoder).forward(self.decoder, batch[:1, :-1])
        self.kernels = sorted(set(names)) or ["no kernel"]
        self.flops_per_token = TRAINING * self.decoder.flops(context) / context
        knobs = {**factory(self.recipe.config["optimizer"], "optimizer").knobs, "lr": 0.0}  # a step of no length
        optimizer = factory(self.recipe.config["optimizer"], "optimizer").target(self.decoder.named_parameters(), **knobs)

        def step(rows: int) -> float:
            start = time.perf_counter()
            for micro in batch[:rows].chunk(self.settings.accumulate):
                self.decoder(micro[:, :-1], micro[:, 1:]).loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.wait()
            return time.perf_counter() - start

        self.decoder.train()
        single = min(step(self.settings.accumulate), step(self.settings.accumulate))
        rows = self.settings.batch_size / self.settings.accumulate
        if single * rows < 2:
            step(self.settings.batch_size)
            self.step_s = statistics.median(step(self.settings.batch_size) for _ in range(5))
        else:
            self.step_s = single * rows
        self.estimate_rest()

    def estimate_rest(self) -> None:
        """Seconds of all evaluations and samples, from the step: a forward pass is a third of it; a token written is
        one such pass over a row."""
        settings, context = self.settings, self.settings.model.context
        forward = self.step_s / TRAINING / settings.batch_size
        self.final_s = len(self.all[0]) * forward + settings.sample.length * 0.02 + 1.0
        interim = settings.steps // settings.evaluation.every
        each = len(self.some[0]) * forward + min(context, 64) * 0.004
        self.overhead_s = self.final_s + interim * each

    # -- training

    def fit(self) -> None:
        path, passed = checkpoint.newest(self.record.checkpoints)
        for line in passed:
            self.terminal.say(f"  [yellow]{line}; taking the one before[/]")
        if not self.fresh:
            step = checkpoint.load(path)["global_step"] if path else 0
            self.record.rewind(step)
            self.terminal.say(f"  going on from step {step:,}" if path else "  no checkpoint yet: from the start")
            if self.facts["code"] != code(self.recipe):
                self.terminal.say("  [yellow]the code has changed since this run began: it goes on, but not as it would have[/]")
        self.trainer.fit(self.task, self.feed, ckpt_path=path, weights_only=True)
        self.rounds.close()
        if self.rounds.signal is not None and self.rounds.step < self.settings.steps:
            name = signal.Signals(self.rounds.signal).name
            line = f"stopped by {name} after step {self.rounds.saved:,}; {self.how_to_go_on()}"
            raise Ended(line, 128 + self.rounds.signal)
        self.decoder.to(self.device)

    def how_to_go_on(self) -> str:
        return f"go on with: python train.py resume={shlex.quote(str(self.record.folder))}"

    # -- after

    def evaluate_some(self) -> dict[str, float]:
        """The interim evaluation."""
        return self.values(evaluate(self.decoder, *self.some, self.lengths))

    def values(self, scores: Scores) -> dict[str, float]:
        values = {"val/loss": scores.nats.double().mean().item()}
        for name, metric in self.metrics.items():
            metric.to(scores.nats.device).reset()
            metric.update(scores)
            values[f"val/{name}"] = float(metric.compute())
        return values

    def score(self) -> dict[str, float]:
        """The final evaluation: every target of the validation split once."""
        start = time.perf_counter()
        scores = evaluate(self.decoder, *self.all, self.lengths)
        values = self.values(scores)
        self.times["final_evaluation_s"] = time.perf_counter() - start
        np.savez_compressed(self.record.folder / "evaluation.npz", nats=scores.nats.float().cpu().numpy())
        row = {"step": self.rounds.step, "tokens": self.rounds.tokens, **values}
        self.record.row(row)
        self.mirror.log(row)
        return values

    def write(self, count: int, length: int) -> list[str]:
        """Texts of `count` samples, drawn with the run's seed."""
        sample = self.settings.sample
        prompt = self.prompt[None].expand(count, -1)
        drawn = generate(
            self.decoder,
            prompt,
            length,
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
            seed=self.settings.seed,
        )
        tokens = torch.stack(list(drawn), 1).cpu().numpy()
        return [self.corpus.tokenizer.decode(row) for row in tokens]

    def write_one(self) -> dict[str, Any]:
        """The sample of an interim evaluation, the same random draws each time."""
        return self.described(self.write(1, self.settings.sample.length)[0])

    def described(self, text: str) -> dict[str, Any]:
        return {
            "prompt": self.corpus.tokenizer.decode(self.prompt.cpu().numpy()),
            "text": text,
            "seed": self.settings.seed,
            "temperature": self.settings.sample.temperature,
        }

    def draw(self) -> list[dict[str, Any]]:
        """The final samples, and the time of a token at batch 1."""
        sample = self.settings.sample
        at = {"step": self.rounds.step, "tokens": self.rounds.tokens}
        start = time.perf_counter()
        rows = [{**at, **self.described(text)} for text in (self.write(sample.count, sample.length) if sample.count else [])]
        self.times["samples_s"] = time.perf_counter() - start
        for row in rows:
            self.record.sample(row)
        self.mirror.samples(rows)
        self.write(1, 8)
        each = []
        for _ in range(5):
            start = time.perf_counter()
            self.write(1, sample.length)
            each.append((time.perf_counter() - start) * 1000 / sample.length)
        self.times["generate_ms_per_token"] = statistics.median(each)
        return rows

    def summarize(self, values: dict[str, float], texts: list[dict[str, Any]]) -> dict[str, Any]:
        state = self.rounds.state
        best = min(values["val/loss"], state["best"] if state["best"] is not None else values["val/loss"])
        summary = {
            **self.known(),
            "status": "finished",
            **values,
            "val/loss_best": best,
            "val/tokens": int((self.all[1] >= 0).sum()),
            "time/total_s": time.monotonic() - self.began,
            "time/train_s": state["train_s"],
            "time/evaluate_s": state["evaluate_s"] + self.times["final_evaluation_s"],
            "time/samples_s": self.times["samples_s"],
            "time/step_ms_median": statistics.median(state["step_ms"]) if state["step_ms"] else None,
            "time/generate_ms_per_token": self.times["generate_ms_per_token"],
            "memory/peak_bytes": self.peak_bytes(),
        }
        step_ms = summary["time/step_ms_median"]
        batch_tokens = self.settings.batch_size * self.settings.model.context
        summary["throughput/tokens_per_s"] = batch_tokens / step_ms * 1000 if step_ms else None
        self.conclude(summary, texts)
        return summary

    def known(self) -> dict[str, Any]:
        """What a summary holds whether or not the run came to its end."""
        memory = self.decoder.memory(1, self.settings.model.context)
        held = sum(one.nbytes for one in memory if one is not None)
        facts = {key: value for key, value in self.facts.items() if key not in ("choices", "differs", "command")}
        return {
            **facts,
            "seed": self.settings.seed,
            "steps": self.rounds.step,
            "tokens": self.rounds.tokens,
            "params": count(self.decoder),
            "flops_per_token": self.flops_per_token,
            "cache_bytes_per_token": held / self.settings.model.context,
            "attention/kernel": "+".join(self.kernels),
            "device": self.device_name(),
            "ended": now(),
        }

    def conclude(self, summary: dict[str, Any], texts: list[dict[str, Any]]) -> None:
        losses = [row["train/loss"] for row in rows(self.record.folder / "metrics.jsonl") if "train/loss" in row]
        say = self.terminal
        say.say()
        if losses:
            say.fact("loss", f"{losses[0]:.2f} {spark(losses)} {losses[-1]:.2f}")
        metrics = "   ".join(f"{name.replace('_', ' ')} {summary[f'val/{name}']:.4g}" for name in self.metrics)
        say.fact("val", f"[bold]{summary['val/loss']:.4f} nats/token[/]   {metrics}")
        say.fact(
            "time",
            f"{duration(summary['time/total_s'])} in all: training {duration(summary['time/train_s'])} at "
            f"{summary['time/step_ms_median'] or 0:.1f} ms a step, evaluation {duration(summary['time/evaluate_s'])}; "
            f"writing {summary['time/generate_ms_per_token']:.2f} ms a token; peak memory "
            f"{summary['memory/peak_bytes'] / 1e9:.2f} GB",
        )
        if texts:
            say.text(texts[0]["text"])

    # -- the machine

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def device_name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name()
        return f"cpu, {torch.get_num_threads()} threads"


def count(decoder: torch.nn.Module) -> int:
    """Parameters, a tied one once."""
    return sum(p.numel() for p in decoder.parameters())
