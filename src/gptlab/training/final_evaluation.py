"""The final evaluation: every target of the validation split once, and the loss by position and by history.

On a split of more than evaluation.final tokens (20 million where it is null) windows spread evenly are scored instead.

By position: mean nats at each place of the window, so the first entry is that of a token which sees one other.
By history: the same targets, about a quarter of evaluation.tokens, each the last of 1, 2 and 4 contexts of text, so
that 1 to T, T + 1 to 2 T, or 3 T + 1 to 4 T tokens stand before them: does a decoder use more than it was trained on,
or does it break? They are some of the windows above, which were scored at 1 context already. A position that knows
fewer tokens leaves a key out, and `val/loss_at_missing` says why.
"""

import re
import time
from typing import Any

import numpy as np
import torch

from gptlab.corpus.corpus import Corpus, Windows
from gptlab.corpus.documents import count_tokens_before, number_documents
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.model.shape import IGNORED
from gptlab.runs.record import read_rows
from gptlab.stats.downstream.signal_to_noise import measure_checkpoint_noise
from gptlab.stats.downstream.tasks import is_task_key
from gptlab.stats.summary_keys import NOISE_PREFIX
from gptlab.training.context import RunContext
from gptlab.training.cost.run_time import CONTEXTS, HISTORY_SHARE
from gptlab.training.evaluate import evaluate
from gptlab.training.evaluator import Evaluator
from gptlab.training.run_log import RunLog
from gptlab.training.setup import TrainingSetup
from gptlab.training.state import RunState

MAX_LEVELS = 12
"""Levels of difficulty that are told one by one, and sources of a text at most."""


def evaluate_final(
    context: RunContext, setup: TrainingSetup, evaluator: Evaluator, log: RunLog, state: RunState
) -> tuple[dict[str, Any], float]:
    """Score the validation split; write evaluation.npz and a row. Return the values for the summary, and seconds."""
    start, decoder, corpus = time.perf_counter(), setup.decoder, context.corpus
    scores = evaluator.score_final(decoder)
    values: dict[str, Any] = {**evaluator.compute_values(scores), **mean_of_halves(scores.nats)}
    values |= evaluator.score_tasks(decoder)
    values |= evaluator.score_answers(decoder, final=True)
    values["scored_tokens"] = len(scores.nats)
    # the last step may have ruined the weights, and no training loss comes after it
    setup.task.refuse_bad_value(values["val/loss"], state.step)
    nats = scores.nats.float().cpu().numpy()
    length = decoder.shape.context
    # fewer than all places, where evaluation.final scores a part of the split
    places = corpus.find_scored_places(length)[: len(nats)]
    means, counts = average_by_position(nats, places, length)
    right = (scores.predicted == scores.target).double().cpu().numpy()
    values |= measure_accuracy_by_difficulty(right, corpus.list_difficulty())
    for metric in evaluator.answer_metrics.values():
        values |= measure_accuracy_by_difficulty(metric.right, metric.difficulty)
    arrays: dict[str, Any] = {"nats": nats, "by_position": means, "targets_by_position": counts}
    of_documents, document_arrays = score_documents(nats, corpus, evaluator)
    values, arrays = values | of_documents, arrays | document_arrays
    table = compute_position_table(decoder)
    if table is not None:
        arrays["position_table"] = table.cpu().numpy().astype(np.float16)
        values |= measure_overlap(decoder, table)
    np.savez(context.folder.path / "evaluation.npz", **arrays)
    tokens = context.settings.evaluation.tokens // HISTORY_SHARE
    values |= score_by_history(decoder, corpus, tokens, evaluator, nats=scores.nats)
    row = {**log.axes(), **values}
    context.folder.append_metrics(row)
    context.tracker.log_metrics(row)
    values |= measure_task_noise(context, evaluator)
    best = state.best_loss
    # interim losses are of fewer tokens, the same ones each time
    values["val/loss_best"] = values["val/loss"] if best is None else min(values["val/loss"], best)
    return {**values, **explain_missing_history(decoder, corpus, evaluator)}, time.perf_counter() - start


def measure_task_noise(context: RunContext, evaluator: Evaluator) -> dict[str, float]:
    """Return how much each downstream task moves over the run's last evaluations, the final one among them."""
    if not evaluator.task_metrics:
        return {}
    scores: dict[str, list[float]] = {}
    for row in read_rows(context.folder.path / "metrics.jsonl"):
        for key in filter(is_task_key, row):
            scores.setdefault(key, []).append(row[key])
    noise = {key: measure_checkpoint_noise(of_task) for key, of_task in scores.items()}
    return {NOISE_PREFIX + key.removeprefix("val/"): sd for key, sd in noise.items() if sd is not None}


def mean_of_halves(nats: torch.Tensor) -> dict[str, float]:
    """Return mean nats of the first half of the targets, by which a search chooses, and of the second, which judges."""
    first, second = nats.double().tensor_split(2)
    return {"val/loss_select": first.mean().item(), "val/loss_test": second.mean().item()}


def average_by_position(nats: np.ndarray, place: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean at each place of a window and the number of targets there, (context,) each.

    `nats` are those of all targets in order, (N,), and `place` where in its window each stands.
    """
    counts = np.bincount(place, minlength=context)
    sums = np.bincount(place, nats, minlength=context)
    return sums / np.maximum(counts, 1), counts


def score_documents(
    nats: np.ndarray, corpus: Corpus, evaluator: Evaluator
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the loss by what stands before a target in its document, and by file, for the summary; the first in full.

    Key n is of targets after n to 2 n - 1 tokens of their document, or after none, whether a window shows them or not.
    """
    documents, windows = corpus.documents, evaluator.final_windows[1]
    if documents is None or not isinstance(windows, Windows):
        return {}, {}
    positions = windows.list_positions()
    before = count_tokens_before(documents.validation, positions)
    # 0 for none, l for 2^(l - 1) tokens or more
    levels = np.where(before > 0, np.frexp(before)[1], 0)
    means, counts = average_by_position(nats, levels, int(levels.max()) + 1)
    values = {}
    for level in np.flatnonzero(counts).tolist():
        values[f"val/loss_in_document_{2**level // 2}"] = float(means[level])
    if len(documents.sources) <= MAX_LEVELS:
        firsts = np.array([first for _, first in documents.sources])
        numbers = number_documents(firsts, positions) - 1  # the source of each target, from 0
        for number, (name, _) in enumerate(documents.sources):
            if (numbers == number).any():
                key = re.sub(r"[^\w.-]+", "_", name)  # no slash, which would end a group of keys
                values[f"val/loss_source_{key}"] = float(nats[numbers == number].mean())
    return values, {"by_document_place": means, "targets_by_document_place": counts}


def measure_accuracy_by_difficulty(right: np.ndarray, difficulty: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the share of right answers, (N,), at each level of what makes them hard, by its name.

    Many levels are grouped by powers of two, named by the largest: 8 stands for 5 to 8.
    """
    values = {}
    for name, levels in difficulty.items():
        levels = levels[: len(right)]  # evaluation.final may leave out the last examples
        if len(np.unique(levels)) > MAX_LEVELS:
            levels = 2 ** np.ceil(np.log2(np.maximum(levels, 1))).astype(int)
        for level in np.unique(levels).tolist():
            values[f"val/accuracy_at_{name}_{level}"] = float(right[levels == level].mean())
    return values


@torch.no_grad()
def compute_position_table(decoder: Decoder) -> torch.Tensor | None:
    """Return the vectors that a position adds to embeddings, (context, width), for pictures; None if it adds none."""
    shape, position = decoder.shape, decoder.position
    if "embed" not in position.provides:
        return None
    zeros = decoder.embedding.weight.new_zeros(1, shape.context, shape.width)
    with eval_mode(decoder):
        return position.embed(zeros, torch.arange(shape.context, device=zeros.device)[None])[0]


@torch.no_grad()
def measure_overlap(decoder: Decoder, table: torch.Tensor) -> dict[str, float]:
    """Return how far positions and tokens share their main directions, an eighth of the width each.

    It is the mean squared cosine of the principal angles, 1 for the same subspace; beside it what chance gives.
    """
    # every token as it enters the first block, at position 0, less what position 0 adds to a token of zeros
    vocabulary = torch.arange(decoder.shape.vocab, device=decoder.embedding.weight.device)[None]
    first = torch.zeros_like(vocabulary)
    with eval_mode(decoder):
        tokens = decoder.embed_tokens(vocabulary)
        embed = decoder.position.embed
        tokens = (embed(tokens, first) - embed(torch.zeros_like(tokens), first))[0]
    width = table.shape[1]
    of_tokens, of_positions = (main_directions(rows.double(), max(1, width // 8)) for rows in (tokens, table))
    smaller, larger = sorted((of_tokens.shape[1], of_positions.shape[1]))
    overlap = (of_tokens.T @ of_positions).square().sum().item() / smaller
    # a direction of a random subspace of `larger` dimensions: its mean squared cosine is larger / width
    return {"position/overlap": overlap, "position/overlap_chance": larger / width}


def main_directions(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return the directions in which rows (N, width) vary most, (width, at most `count`)."""
    centred = rows - rows.mean(0)
    # of (width, width), which is smaller than the SVD of (N, width)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors  # columns, ascending in their variance
    # N centred rows vary in N - 1 directions at most
    count = min(count, max(1, len(rows) - 1))
    return directions[:, -count:]


def score_by_history(
    decoder: Decoder, corpus: Corpus, tokens: int, evaluator: Evaluator, nats: torch.Tensor
) -> dict[str, float]:
    """Return mean nats of the same targets, about `tokens` of them, after 1, 2 and 4 contexts of text.

    `nats` are those of the final evaluation's targets in order, (N,), scored at 1 context.
    """
    validation, context = corpus.validation, decoder.shape.context
    multiples = find_history_multiples(decoder, corpus)
    if not multiples or not scores_history(decoder, corpus, evaluator):
        return {}
    windows = evaluator.final_windows[0]
    assert isinstance(windows, Windows)  # only text has a history
    numbers = windows.numbers
    chosen = choose_history_windows(numbers, len(validation), context, tokens)
    of_windows = torch.from_numpy(chosen[:, None] * context + np.arange(context)).to(nats.device)
    # at 1 context nothing is computed: the final evaluation has scored these very windows
    values = {"val/loss_at_1x": nats[of_windows].double().mean().item()}
    ends = (numbers[chosen] + 1) * context
    for contexts in multiples[1:]:
        positions = ends[:, None] + np.arange(-contexts * context, 0)
        targets = validation[positions + 1].astype(np.int64)
        # what is longer is history alone: the targets stay the same, so the losses differ by it only
        targets[:, :-context] = IGNORED
        documents = None if windows.starts is None else number_documents(windows.starts, positions)
        inputs = validation[positions].astype(np.int64)
        scores = evaluate(decoder, inputs, targets, evaluator.token_bytes, documents=documents)
        values[f"val/loss_at_{contexts}x"] = scores.nats.double().mean().item()
    return values


def choose_history_windows(numbers: np.ndarray, length: int, context: int, tokens: int) -> np.ndarray:
    """Return which of the scored windows are scored again, as indices into `numbers`, spread evenly.

    Each has the longest history before it, and is whole. `numbers` are those of the scored windows in a split of
    `length` tokens; the windows chosen hold about `tokens`.
    """
    has_history, is_whole = numbers >= max(CONTEXTS) - 1, (numbers + 1) * context < length
    fit = np.flatnonzero(has_history & is_whole)
    count = min(max(1, tokens // context), len(fit))
    return fit[np.linspace(0, len(fit) - 1, count).astype(int)]


def find_history_multiples(decoder: Decoder, corpus: Corpus) -> list[int]:
    """Return the contexts of history that the position knows and the validation split has."""
    known, context = decoder.position.length, decoder.shape.context
    if corpus.explain_missing_history(context, max(CONTEXTS)):
        return []
    return [contexts for contexts in CONTEXTS if known is None or contexts * context <= known]


def scores_history(decoder: Decoder, corpus: Corpus, evaluator: Evaluator) -> bool:
    """Return whether any of the windows that are scored has enough text before it."""
    windows, context = evaluator.final_windows[0], decoder.shape.context
    assert isinstance(windows, Windows)  # only text has a history
    return len(choose_history_windows(windows.numbers, len(corpus.validation), context, context)) > 0


def explain_missing_history(decoder: Decoder, corpus: Corpus, evaluator: Evaluator) -> dict[str, str]:
    """Return why a loss by history is missing, if one is."""
    multiples = find_history_multiples(decoder, corpus)
    if not multiples:
        return {"val/loss_at_missing": corpus.explain_missing_history(decoder.shape.context, max(CONTEXTS))}
    if not scores_history(decoder, corpus, evaluator):
        windows = f"no window that is scored has {max(CONTEXTS) - 1} contexts of text before it"
        return {"val/loss_at_missing": f"{windows}: evaluation.final is too small"}
    if len(multiples) < len(CONTEXTS):
        return {"val/loss_at_missing": f"the position knows {decoder.position.length} places alone"}
    return {}
