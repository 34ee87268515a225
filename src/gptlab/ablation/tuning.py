"""Every arm over the same grid of learning rates, each judged at its best."""

import statistics as plain

from gptlab.ablation.outcome import Run, Tuning


def tuned(runs: list[Run]) -> tuple[list[Tuning], list[Run]]:
    """The curve of each arm, and the runs at its best rate. A rate at which some seed did not finish is best only where
    all are so."""
    tunings, best = [], []
    for arm in sorted({run.arm for run in runs}):
        mine = [run for run in runs if run.arm == arm]
        rates = sorted({run.lr for run in mine if run.lr is not None})
        losses = {rate: _mean([run for run in mine if run.lr == rate]) for rate in rates}
        whole = {
            rate: loss
            for rate, loss in losses.items()
            if loss is not None and all(run.status == "finished" for run in mine if run.lr == rate)
        }
        known = whole or {rate: loss for rate, loss in losses.items() if loss is not None}
        chosen = min(known, key=lambda rate: (known[rate], rate)) if known else None
        sensitivity = plain.fmean(known.values()) - min(known.values()) if known else None
        tunings.append(Tuning(arm, losses, chosen, chosen in (rates[0], rates[-1]) if rates else False, sensitivity))
        best += [run for run in mine if run.lr == (chosen if chosen is not None else rates[0] if rates else None)]
    return tunings, best


def _mean(runs: list[Run]) -> float | None:
    found = [run.values["val/loss"] for run in runs if run.status == "finished" and "val/loss" in run.values]
    return plain.fmean(found) if found else None
