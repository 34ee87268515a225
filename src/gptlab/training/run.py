"""One run, from a checked recipe to a finished run folder."""

import errno
import logging
import math
import signal
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gptlab.build import build
from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.console.terminal import Terminal
from gptlab.corpus.corpus import Corpus
from gptlab.corpus.load import read_corpus
from gptlab.errors import Ended, Refused
from gptlab.model.compile_policy import after_all
from gptlab.runs import checkpoint
from gptlab.runs import tracker as tracking
from gptlab.runs.fingerprint import fingerprint_recipe
from gptlab.runs.record import RunFolder, utc_now
from gptlab.training import memory as footprint
from gptlab.training.distributed import Ranks
from gptlab.training.final_evaluation import score
from gptlab.training.messages import conclude, introduce
from gptlab.training.probe import Probe, probe
from gptlab.training.samples import draw
from gptlab.training.session import Session
from gptlab.training.start import begin, open_mirror, refuse_small_disk, to_resume
from gptlab.training.task import Diverged
from gptlab.training.worker import follow
from gptlab.weights.change import told


def run(
    recipe: Recipe,
    corpus: Corpus | None = None,
    began: float | None = None,
    *,
    quiet: bool = False,
    opened: Callable[[Path], None] = lambda folder: None,
) -> Path | None:
    """Trains, evaluates, samples, records; goes on with a run if `resume` says so. Returns the run's folder; none where
    another process leads. `began` is the monotonic time from which the run's minutes count; a quiet run says all to its
    log alone; `opened` is told the folder before training."""
    began = time.monotonic() if began is None else began
    hush()
    mode = tracking.choose_mode(recipe.settings.tracking)
    corpus = corpus or read_corpus(recipe)
    settings = recipe.settings
    make = factory(recipe.config["trainer"], "trainer")()
    ranks = Ranks(make(max_steps=settings.steps, accumulate_grad_batches=settings.accumulate))
    if ranks.rank:
        return follow(recipe, corpus, ranks)
    folder = to_resume(recipe)
    decoder = build(recipe, corpus.tokenizer.vocab, begins=folder is None)
    refuse_small_disk(recipe, decoder)
    record = RunFolder(folder) if folder else RunFolder.create(recipe)
    with record.lock(), record.remove_if_refused(folder is None):
        if folder is None:
            begin(recipe, record, corpus)
        elif record.read_facts()["data_sha256"] != corpus.sha256:
            raise Refused(
                f"resume={folder} learned from another text (sha256 {record.read_facts()['data_sha256'][:8]}...)"
            )
        opened(record.path)
        terminal = Terminal(record, quiet=quiet)
        mirror = open_mirror(recipe, record, decoder, mode, terminal, resumed=folder is not None)
        guarded(Session(recipe, record, corpus, decoder, mirror, terminal, ranks, fresh=folder is None, began=began))
    return record.path


def hush() -> None:
    """Lightning's advertisements, and a deprecation inside it that its users cannot mend (2.6.6)."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


class Stopped(BaseException):
    """A signal that ends the run at once, outside training."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def stop(number: int, _: Any) -> None:
    """Handles a signal by raising Stopped."""
    raise Stopped(number)


def guarded(session: Session) -> None:
    """All stages; whatever happens, the mirror is closed, and the last line names the folder."""
    record, status = session.record, 1
    summary: dict[str, Any] = {"status": "failed"}
    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        summary = stages(session)
        status = 0
    except Diverged as error:
        summary = {**known(session, None), "status": "diverged", "reason": str(error)}
        record.write_summary(summary)
        raise Ended(f"diverged at {error}") from error
    except Ended as ended:
        status, summary = ended.status, {"status": "interrupted"}
        raise
    except (KeyboardInterrupt, Stopped) as stopped:
        status, summary = stopped.status if isinstance(stopped, Stopped) else 130, {"status": "interrupted"}
        raise Ended(f"stopped; {session.how_to_go_on()}", status) from stopped
    except Refused:
        summary = {"status": "refused"}
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            record.log_error(error)
            raise
        raise Ended(f"the disk is full; free some, then {session.how_to_go_on()}") from error
    except BaseException as error:
        record.log_error(error)
        raise
    finally:
        session.rounds.close()
        session.ranks.end()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        session.mirror.finish(summary, status)
        if summary["status"] != "refused":
            session.terminal.last(str(record.path))


def stages(session: Session) -> dict[str, Any]:
    """Says what it is, trains, scores, writes, sums up."""
    with session.terminal.working("measuring a step"):
        measured = probe(session)
    settle_compiling(session, measured)
    introduce(session, measured)
    with session.terminal.working("waiting for the other processes"):
        session.ranks.meet()
    bound_time(session, measured)
    start_s = time.monotonic() - session.began
    fit(session)
    with session.terminal.working("evaluating the whole validation split"), session.numerics():
        values, evaluate_s = score(session)
    with session.terminal.working("writing samples"):
        texts, written = draw(session)
    summary = {
        **known(session, measured),
        "status": "finished",
        **values,
        **written,
        **timings(session, start_s, evaluate_s),
    }
    session.record.write_summary(summary)
    session.mirror.upload_checkpoint(session.record.checkpoints)
    conclude(session, summary, texts)
    return summary


def settle_compiling(session: Session, measured: Probe) -> None:
    """Compiles a run that is long enough to pay for it; what was settled holds when the run is resumed."""
    settings = session.settings
    seconds = min(settings.steps * measured.step_s, (settings.max_minutes or math.inf) * 60)
    if session.fresh and after_all(settings.compile, session.device.type, seconds) and not session.compiled:
        session.compile()
    session.record.update_facts(compiled=session.compiled)


def bound_time(session: Session, measured: Probe) -> None:
    """Turns max_minutes into the seconds that training may take."""
    minutes, task = session.settings.max_minutes, session.task
    if minutes is None:
        return
    rest = time.monotonic() - session.began + 1.2 * measured.final_s + 1  # a second for the last checkpoint
    task.seconds = minutes * 60 - rest
    if task.seconds < 3 * min(measured.step_s, measured.alone_s):
        raise Refused(
            f"max_minutes={minutes:g} leaves no time to train: all the rest takes {rest:.0f} s here; give more"
        )


def fit(session: Session) -> None:
    """Trains to the end, or to a signal; from the newest checkpoint that can be read if the run is resumed."""
    record, terminal, rounds = session.record, session.terminal, session.rounds
    path, passed = checkpoint.find_newest_checkpoint(record.checkpoints)
    for line in passed:
        terminal.say(f"  [yellow]{line}[/]")
    saved = checkpoint.load_checkpoint(path) if path else None
    if not session.fresh:
        record.rewind(*(saved["callbacks"]["Rounds"]["written"] if saved else (0, 0)))
        terminal.say(f"  going on from step {saved['global_step']:,}" if saved else "  no checkpoint: from the start")
        if session.facts["code"] != fingerprint_recipe(session.recipe):
            terminal.say("  [yellow]the code has changed since this run began: it goes on, but not as it would have[/]")
    if saved and saved["callbacks"]["Rounds"]["over"]:  # killed after its last step
        session.decoder.load_state_dict(checkpoint.extract_decoder_weights(saved))
        rounds.state, rounds.step = saved["callbacks"]["Rounds"], saved["global_step"]
        session.ranks.told(None)
        return
    session.train(session.ranks.told({"path": path, "seconds": session.task.seconds, "compiled": session.compiled}))
    if rounds.stopped and not rounds.state["over"]:
        name = signal.Signals(rounds.stopped).name
        line = f"stopped by {name} after step {rounds.saved:,}; {session.how_to_go_on()}"
        raise Ended(line, 128 + rounds.stopped)
    if session.shared:  # the others are gone; what was just saved is whole
        session.decoder = build(session.recipe, session.corpus.tokenizer.vocab)
        session.decoder.load_state_dict(
            checkpoint.extract_decoder_weights(checkpoint.load_checkpoint(record.checkpoints / "last.ckpt"))
        )
    session.decoder.to(session.device)


def timings(session: Session, start_s: float, evaluate_s: float) -> dict[str, Any]:
    """Times, speed and memory of a run."""
    state, settings = session.rounds.state, session.settings
    step_ms = statistics.median(state["step_ms"]) if state["step_ms"] else None
    speed = settings.batch_size * settings.model.context / step_ms * 1000 if step_ms else None
    full = session.full_speed
    return {
        "time/total_s": time.monotonic() - session.began,
        "time/start_s": start_s,
        "time/train_s": state["train_s"],
        "time/evaluate_s": state["evaluate_s"] + evaluate_s,
        "time/step_ms_median": step_ms,
        "throughput/tokens_per_s": speed,
        **({"throughput/mfu": speed / full} if speed and full else {}),
        "memory/peak_bytes": footprint.peak_bytes(session.device),
    }


def known(session: Session, measured: Probe | None) -> dict[str, Any]:
    """What a summary holds whether or not the run came to its end."""
    context = session.settings.model.context
    held = sum(one.nbytes for one in session.decoder.new_cache(1, context) if one is not None)
    facts = {key: value for key, value in session.facts.items() if key not in ("choices", "differs", "command", "cwd")}
    return {
        **facts,
        "seed": session.settings.seed,
        "steps": session.rounds.step,
        "tokens": session.rounds.tokens,
        "params": session.params,
        "params_trainable": session.params_trainable,
        "flops_per_token": session.flops_per_token,
        "cache_bytes_per_token": held / context,
        "device": session.device_name,
        "processes": session.ranks.size,
        "precision": session.precision,
        "compiled": session.compiled,
        "ended": utc_now(),
        **told(session.decoder),
        **({"attention/kernel": measured.kernels} if measured else {}),
    }
