"""tune=transfer: rates are tuned at a ladder's smallest rung, and a parametrization carries them to the larger ones.

The second rung runs every rate of the first one too: two curves of loss over rate whose lowest points lie at the same
rate are the evidence that rates carry. It is judged at the rate that was carried all the same. From the third rung on
that rate runs alone.
"""

from typing import TYPE_CHECKING

from gptlab.ablation.cells import Cell, set_seed_and_rate

if TYPE_CHECKING:
    from gptlab.ablation.plan import Plan


def make_carried_cells(plan: "Plan", provisional: list[Cell], number: int) -> dict[str, Cell]:
    """Return the cells of a rung, counted from 0, in place of the provisional ones: at the rates of the smallest rung.

    An arm that diverged at every rate there keeps its own.
    """
    from gptlab.ablation.plan import estimate_run_times
    from gptlab.report.findings import compare_study_folder

    smallest = compare_study_folder(plan.folder.path).strata[0]
    tunings = {tuning.arm: tuning for tuning in smallest.tunings}
    cells = []
    for variant in {cell.variant.key: cell.variant for cell in provisional}.values():
        tuning = tunings[variant.name]
        if tuning.best is None:
            cells += [cell for cell in provisional if cell.variant.key == variant.key]
            continue
        for rate in sorted(tuning.losses) if number == 1 else [tuning.best]:
            for seed in plan.spec.options.blocks:
                cells.append(Cell(variant, set_seed_and_rate(variant, seed, rate), lr=rate))
    before = plan.cells
    # they are looked up in the pool, and take the place of the provisional ones in the plan
    plan.add_cells(cells)
    estimate_run_times(plan)
    added = {cell.key: plan.cells[cell.key] for cell in cells}
    plan.cells = before
    return added
