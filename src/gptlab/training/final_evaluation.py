"""The final evaluation: every target of the validation split once, and what the position of a target does to its loss.

By position: mean nats at each place of the window, so the first entry is that of a token which sees one other.
By history: the same targets, about evaluation.tokens of them, each the last of 1, 2 and 4 contexts of text, so that
1 to T, T + 1 to 2 T, or 3 T + 1 to 4 T tokens stand before them: does a decoder use more than it was trained on, or
does it break? A position that knows fewer tokens leaves a key out, and `val/loss_at_missing` says why.
"""

import time
from typing import Any

import numpy as np
import torch

from gptlab.model.eval_mode import eval_mode
from gptlab.model.forward_pass import IGNORED
from gptlab.training.evaluate import evaluate
from gptlab.training.session import Session

CONTEXTS = (1, 2, 4)


def score(session: Session) -> tuple[dict[str, Any], float]:
    """Scores the validation split; writes evaluation.npz and a row. Returns the values for the summary, and seconds."""
    start = time.perf_counter()
    scores = evaluate(session.decoder, *session.all, session.lengths)
    values = {**session.values(scores), **halves(scores.nats)}
    nats = scores.nats.float().cpu().numpy()
    means, counts = by_position(nats, session.settings.model.context)
    table = position_table(session)
    found: dict[str, Any] = {"nats": nats, "by_position": means, "targets_by_position": counts}
    if table is not None:
        found["position_table"] = table.cpu().numpy().astype(np.float16)
        values |= overlap(session, table)
    np.savez_compressed(session.record.path / "evaluation.npz", **found)
    values |= by_history(session)
    row = {**session.at, **values}
    session.record.append_metrics(row)
    session.mirror.log_metrics(row)
    best = session.rounds.state["best"]
    values["val/loss_best"] = min(values["val/loss"], values["val/loss"] if best is None else best)
    return {**values, **missing(session)}, time.perf_counter() - start


def halves(nats: torch.Tensor) -> dict[str, float]:
    """Mean nats of the first half of the targets, by which a search may choose, and of the second, for its verdict."""
    first, second = nats.double().tensor_split(2)
    return {"val/loss_select": first.mean().item(), "val/loss_test": second.mean().item()}


def by_position(nats: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """The nats of all targets in order, (N,), to the mean at each place of a window and how many targets were there,
    (context,) each."""
    place = np.arange(len(nats)) % context
    counts = np.bincount(place, minlength=context)
    return np.bincount(place, nats, minlength=context) / np.maximum(counts, 1), counts


@torch.no_grad()
def position_table(session: Session) -> torch.Tensor | None:
    """(context, width): what a position adds to the embeddings, if it adds anything; for pictures."""
    shape, position = session.decoder.shape, session.decoder.position
    if "embed" not in position.provides:
        return None
    empty = session.decoder.embedding.weight.new_zeros(1, shape.context, shape.width)
    with eval_mode(session.decoder):
        return position.embed(empty, torch.arange(shape.context, device=empty.device)[None])[0]


@torch.no_grad()
def overlap(session: Session, table: torch.Tensor) -> dict[str, float]:
    """How far positions and tokens share their main directions, an eighth of the width each: the mean squared cosine of
    the principal angles, 1 for the same subspace; and what chance gives."""
    tokens = session.decoder.embedding.weight[None]
    first = tokens.new_zeros(tokens.shape[:2], dtype=torch.long)
    with eval_mode(session.decoder):
        embed = session.decoder.position.embed
        tokens = (embed(tokens, first) - embed(torch.zeros_like(tokens), first))[0]
    width = table.shape[1]
    ours, theirs = (directions(one.double(), max(1, width // 8)) for one in (tokens, table))
    shared = (ours.T @ theirs).square().sum().item() / min(ours.shape[1], theirs.shape[1])
    return {"position/overlap": shared, "position/overlap_chance": max(ours.shape[1], theirs.shape[1]) / width}


def directions(rows: torch.Tensor, many: int) -> torch.Tensor:
    """Rows (N, width) to the directions in which they vary most, (width, at most `many`)."""
    centred = rows - rows.mean(0)
    return torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -min(many, max(1, len(rows) - 1)) :]


def by_history(session: Session) -> dict[str, float]:
    """Mean nats of the same targets after 1, 2 and 4 contexts, as far as the position knows."""
    validation, context = session.corpus.validation, session.settings.model.context
    contexts_there = reachable(session)
    if not contexts_there:
        return {}
    ends = ends_of_windows(len(validation), context, session.settings.evaluation.tokens)
    values = {}
    for contexts in contexts_there:
        at = ends[:, None] + np.arange(-contexts * context, 0)
        targets = validation[at + 1].astype(np.int64)
        targets[:, :-context] = IGNORED
        scores = evaluate(session.decoder, validation[at].astype(np.int64), targets, session.lengths)
        values[f"val/loss_at_{contexts}x"] = scores.nats.double().mean().item()
    return values


def ends_of_windows(length: int, context: int, tokens: int) -> np.ndarray:
    """Where windows end, spread evenly over a split of `length` tokens, so that each has the longest history before it
    and no target is in two of them."""
    first, last = max(CONTEXTS) * context, length - 1
    return np.linspace(first, last, min(-(-tokens // context), 1 + (last - first) // context)).astype(int)


def reachable(session: Session) -> list[int]:
    """Contexts of history that the position knows and the validation split has."""
    known, context = session.decoder.position.length, session.settings.model.context
    if len(session.corpus.validation) <= max(CONTEXTS) * context:
        return []
    return [contexts for contexts in CONTEXTS if known is None or contexts * context <= known]


def missing(session: Session) -> dict[str, str]:
    """Why a loss by history is not there, if one is not."""
    found = reachable(session)
    if not found:
        return {"val/loss_at_missing": f"the validation split is no longer than {max(CONTEXTS)} contexts"}
    if len(found) < len(CONTEXTS):
        return {"val/loss_at_missing": f"the position knows {session.decoder.position.length} places alone"}
    return {}
