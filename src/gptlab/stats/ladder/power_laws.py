"""Losses over compute as power laws that share their floor: L = E + A_arm C^-alpha_arm.

Variable projection, as in arXiv:2603.22339: for given exponents the floor and the scales are a linear least-squares
problem, solved exactly and kept >= 0, so that only the exponents are searched. A parabola in ln C, the usual
shortcut, is biased. Compute enters as x = ln(C / C_ref), which keeps the problem well conditioned.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

EXPONENTS = (1e-3, 2.0)
"""Range of the exponents; those of published language models are 0.03 to 0.6."""
START = 0.2
"""Exponent that the search starts from; 0.05 to 0.6 all end at the same optimum (320 planted ladders)."""


@dataclass(frozen=True)
class PowerLaws:
    """Fitted power laws of several arms.

    floor      E, the loss at infinite compute
    scales     A of each arm at x = 0, (arms,)
    exponents  alpha of each arm, (arms,)
    residuals  of the cells, (cells,)
    influence  change of (E, A, alpha) with the loss of each cell, (1 + 2 arms, cells), linearized
    project    change of the fitted losses with the losses, (cells, cells)
    df         cells less free parameters
    """

    floor: float
    scales: np.ndarray
    exponents: np.ndarray
    residuals: np.ndarray
    influence: np.ndarray
    project: np.ndarray
    df: int

    def predict(self, arm: int, x: float) -> float:
        """Return the loss of an arm at x."""
        return float(self.floor + self.scales[arm] * np.exp(-self.exponents[arm] * x))

    def compute_gradient(self, arm: int, x: float) -> np.ndarray:
        """Return the change of `predict(arm, x)` with the loss of each cell, (cells,)."""
        arms = len(self.scales)
        decay = np.exp(-self.exponents[arm] * x)
        gradient = np.zeros(1 + 2 * arms)
        gradient[0], gradient[1 + arm] = 1.0, decay
        gradient[1 + arms + arm] = -self.scales[arm] * x * decay
        return gradient @ self.influence


def fit_power_laws(arms: np.ndarray, x: np.ndarray, losses: np.ndarray) -> PowerLaws:
    """Fit the power laws of all arms, with one floor, by least squares.

    arms    arm of each cell, 0, 1, ..., (cells,)
    x       ln(C / C_ref) of each cell
    losses  mean loss of each cell
    """
    count = int(arms.max()) + 1

    def solve(exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        design = _make_design(arms, x, exponents)
        # a floor or a scale below 0 may fit better, and means nothing
        linear, _ = optimize.nnls(design, losses)
        return linear, losses - design @ linear

    # variable projection: the search is over the exponents alone, E and A follow from them
    bounds = (np.full(count, EXPONENTS[0]), np.full(count, EXPONENTS[1]))
    solution: Any = optimize.least_squares(
        lambda exponents: solve(exponents)[1], np.full(count, START), bounds=bounds, xtol=1e-10, ftol=1e-12
    )
    exponents = np.asarray(solution.x)
    linear, residuals = solve(exponents)
    # what stands at a bound is no free parameter: it moves with no loss, and costs no degree of freedom
    is_free = np.concatenate([linear > 0, (exponents > EXPONENTS[0] * 1.01) & (exponents < EXPONENTS[1] * 0.99)])
    design = _make_design(arms, x, exponents)
    # by E and A it is the design, by alpha -A x exp(-alpha x)
    jacobian = np.hstack([design, design[:, 1:] * -(x * linear[1 + arms])[:, None]])
    influence = np.zeros((len(is_free), len(x)))
    # Gauss-Newton: parameters move as the pseudo-inverse of the Jacobian says
    influence[is_free] = np.linalg.pinv(jacobian[:, is_free])
    return PowerLaws(
        floor=float(linear[0]),
        scales=linear[1:],
        exponents=exponents,
        residuals=residuals,
        influence=influence,
        project=jacobian @ influence,
        df=len(x) - int(is_free.sum()),
    )


def _make_design(arms: np.ndarray, x: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Return the columns of the floor and of each arm's scale, (cells, 1 + arms)."""
    decay = np.exp(-exponents[arms] * x)
    # a cell has its own arm's column alone
    own = (arms[:, None] == np.arange(len(exponents))) * decay[:, None]
    return np.hstack([np.ones((len(x), 1)), own])
