"""Learning-rate tuning: every arm over the same grid of rates, each judged at its best."""

import math
import statistics
from collections.abc import Mapping

from gptlab.stats.results import Run, Tuning


def choose_learning_rates(
    runs: list[Run], carried: Mapping[str, float | None] | None
) -> tuple[list[Tuning], list[Run]]:
    """Return the curve of each arm, and the runs at its best rate, or at the one that is carried from another size.

    A rate at which some seed did not finish is best only where no rate finished in all. The cost of a rate that did not
    finish is unknown, so then there is no sensitivity.
    """
    tunings, best = [], []
    for arm in sorted({run.arm for run in runs}):
        arm_runs = [run for run in runs if run.arm == arm]
        rates = sorted({run.lr for run in arm_runs if run.lr is not None})
        losses: dict[float, float | None] = {}  # mean over the seeds that finished, by rate
        complete: dict[float, float] = {}  # of the rates at which all seeds did
        for rate in rates:
            seed_losses = [_final_loss(run) for run in arm_runs if run.lr == rate]
            mean = _mean_of_known(seed_losses)
            losses[rate] = mean
            if mean is not None and None not in seed_losses:
                complete[rate] = mean
        # a rate at which a seed diverged is passed over, if any other will do: its mean is of the lucky seeds
        candidates = complete or {rate: loss for rate, loss in losses.items() if loss is not None}
        # ties go to the lower rate
        lowest = min(candidates, key=lambda rate: (candidates[rate], rate)) if candidates else None
        is_carried = carried is not None and carried.get(arm) in losses
        chosen = carried[arm] if carried is not None and is_carried else lowest
        sensitivity = (
            statistics.fmean(complete.values()) - min(complete.values())
            if complete and len(complete) == len(rates) and len(rates) > 1
            else None
        )
        tunings.append(
            Tuning(
                arm=arm,
                losses=losses,
                best=chosen,
                edge=lowest in (rates[0], rates[-1]) if len(rates) > 1 and not is_carried else False,
                sensitivity=sensitivity,
                carried_loss=_compare_carried(losses, chosen, lowest) if is_carried and len(rates) > 1 else None,
            )
        )
        # where no rate has a loss, the runs of the lowest stand for the arm
        lowest_rate = rates[0] if rates else None
        rate_of_arm = lowest_rate if chosen is None else chosen
        best += [run for run in arm_runs if run.lr == rate_of_arm]
    return tunings, best


def _compare_carried(
    losses: Mapping[float, float | None], carried: float | None, lowest: float | None
) -> tuple[float, float] | None:
    """Return the best rate of the grid, and what the carried one loses against it; None where either diverged."""
    if carried is None or lowest is None:
        return None
    loss, least = losses[carried], losses[lowest]
    return None if loss is None or least is None else (lowest, loss - least)


def choose_next_rate(tuning: Tuning) -> float | None:
    """Return the rate beyond the edge at which an arm is best, as far off as its neighbour; None where it is inside."""
    rates = sorted(tuning.losses)
    if tuning.best is None or not tuning.edge or len(rates) < 2:
        return None
    neighbour = rates[-2] if tuning.best == rates[-1] else rates[1]
    # geometric: rates of a grid are factors apart
    return float(f"{tuning.best**2 / neighbour:.6g}")


def _final_loss(run: Run) -> float | None:
    loss = run.values.get("val/loss", math.nan)
    return loss if run.status == "finished" and math.isfinite(loss) else None


def _mean_of_known(losses: list[float | None]) -> float | None:
    known = [loss for loss in losses if loss is not None]
    return statistics.fmean(known) if known else None
