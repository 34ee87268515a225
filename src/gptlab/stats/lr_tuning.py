"""Every arm over the same grid of learning rates, each judged at its best."""

import math
import statistics as plain

from gptlab.stats.results import Run, Tuning


def tuned(runs: list[Run]) -> tuple[list[Tuning], list[Run]]:
    """The curve of each arm, and the runs at its best rate. A rate at which some seed did not finish is best only where
    all are so. What a rate that did not finish costs is not known, so then there is no sensitivity."""
    tunings, best = [], []
    for arm in sorted({run.arm for run in runs}):
        mine = [run for run in runs if run.arm == arm]
        rates = sorted({run.lr for run in mine if run.lr is not None})
        found = {rate: [_loss(run) for run in mine if run.lr == rate] for rate in rates}
        losses = {rate: _mean(ones) for rate, ones in found.items()}
        whole = {rate: loss for rate, loss in losses.items() if loss is not None and None not in found[rate]}
        known = whole or {rate: loss for rate, loss in losses.items() if loss is not None}
        chosen = min(known, key=lambda rate: (known[rate], rate)) if known else None
        sensitivity = plain.fmean(whole.values()) - min(whole.values()) if whole and len(whole) == len(rates) else None
        tunings.append(Tuning(arm, losses, chosen, chosen in (rates[0], rates[-1]) if rates else False, sensitivity))
        best += [run for run in mine if run.lr == (chosen if chosen is not None else rates[0] if rates else None)]
    return tunings, best


def _loss(run: Run) -> float | None:
    loss = run.values.get("val/loss", math.nan)
    return loss if run.status == "finished" and math.isfinite(loss) else None


def _mean(losses: list[float | None]) -> float | None:
    found = [loss for loss in losses if loss is not None]
    return plain.fmean(found) if found else None
