"""Extension of learning-rate grids: an arm that is best at an edge of its grid is tried beyond it.

Without this an arm whose best rate lies outside the grid would be judged below its worth. It is bounded, since a loss
may fall with the rate up to the one at which training diverges; an arm that is still at an edge is reported as an upper
bound.
"""

from collections.abc import Callable, Sequence

from rich.console import Console

from gptlab.ablation.cells import Cell, set_seed_and_rate
from gptlab.ablation.plan import Plan, estimate_run_times
from gptlab.stats.lr_tuning import choose_next_rate

MAX_EXTENSIONS = 2


def extend_grids(plan: Plan, run: Callable[[], None], console: Console, sizes: Sequence[str] | None = None) -> None:
    """Run cells beyond the edges of the grids, until every arm is best inside its own, at most MAX_EXTENSIONS times.

    sizes  whose grids are extended; None is all
    """
    for number in range(1, MAX_EXTENSIONS + 1):
        cells = make_cells_beyond_edges(plan, sizes)
        if not cells:
            return
        rates = sorted({f"{cell.variant.key} lr={cell.lr:g}" for cell in cells})
        line = f"best at an edge of lr_grid, so tried beyond it ({number} of at most {MAX_EXTENSIONS})"
        console.print(f"  {line}: {', '.join(rates)}", markup=False, soft_wrap=True)
        plan.add_cells(cells)
        estimate_run_times(plan)
        run()


def make_cells_beyond_edges(plan: Plan, sizes: Sequence[str] | None) -> list[Cell]:
    """Return cells at the next rate of every arm that is best at an edge, in some sizes or, with None, in all."""
    from gptlab.report.findings import compare_study_folder

    # of the cells, whose runs go to this study's outputs; plan.variants do not say where
    variants = {(cell.variant.size, cell.variant.name): cell.variant for cell in plan.cells.values()}
    cells = []
    for stratum in compare_study_folder(plan.folder.path).strata:
        for tuning in stratum.tunings if sizes is None or stratum.size in sizes else ():
            rate = choose_next_rate(tuning)
            if rate is not None:
                variant = variants[stratum.size, tuning.arm]
                for seed in plan.spec.options.blocks:
                    cells.append(Cell(variant, set_seed_and_rate(variant, seed, rate), lr=rate))
    return cells
