"""True differences of arms at two sizes, drawn from what their seeds leave open.

Seeds blur each difference, and blurred signs agree less often than the true ones do. A flat prior blurs them once
more: on planted ladders whose differences are as large as their noise it said 0.24 too little, and this 0.13. So the
prior is learned from the decisions themselves: each pair of true differences is normal about 0, of one of `SCALES` and
of one of `CORRELATIONS` between the sizes, and how common these are is drawn with them (Gibbs sampling of a mixture of
normals; adaptive shrinkage, Stephens 2017, Biostatistics 18:275, is its like). Before data, agreement and disagreement
are equally likely, so few or noisy decisions leave an interval about one half.
"""

import numpy as np

SCALES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""Times the median size of the observed differences, at each size of the model: a few large ones, many small ones."""
CORRELATIONS = (-0.98, -0.7, 0.0, 0.7, 0.98)
"""Between the true differences at both sizes: shares of equal signs of 0.06, 0.25, 0.5, 0.75 and 0.94."""
CONCENTRATION = 0.5
"""Of the Dirichlet priors of how common each is; Jeffreys'."""
BURN_IN = 200


def draw_true_differences(
    observed: np.ndarray, variances: np.ndarray, shared: np.ndarray, draws: int, generator: np.random.Generator
) -> np.ndarray:
    """Return draws of the true differences, (draws, 2, arms).

    observed   differences from the baseline, (2, arms)
    variances  of the arms' own errors, (2, arms)
    shared     variance of the baseline's error at each size, which is in all of its differences, (2,)
    """
    mixture = _Mixture(observed, variances)
    baseline, weights = np.zeros(2), [np.full(len(kinds), 1 / len(kinds)) for kinds in (SCALES, CORRELATIONS)]
    precision = 1 / mixture.errors
    samples = []
    for step in range(BURN_IN + draws):
        truth, counts = mixture.draw(observed + baseline[:, None], weights, generator)
        weights = [generator.dirichlet(CONCENTRATION + of_kind) for of_kind in counts]
        # observed = truth + the arm's error - the baseline's error, which is normal given the others: (2,) each
        spread = 1 / (1 / np.maximum(shared, 1e-300) + precision.sum(1))
        baseline = -spread * (precision * (observed - truth)).sum(1) + np.sqrt(spread) * generator.standard_normal(2)
        if step >= BURN_IN:
            samples.append(truth)
    return np.stack(samples)


class _Mixture:
    """The mixture's parts, and what each makes of each arm: K parts, N arms."""

    def __init__(self, observed: np.ndarray, variances: np.ndarray) -> None:
        units = np.median(abs(observed), 1)
        units = np.where(units > 0, units, 1.0)
        # an arm without noise, as one that is the baseline under a second name, keeps its difference
        self.errors = np.maximum(variances, 1e-12 * units[:, None] ** 2)
        correlations = np.array([[[1, r], [r, 1]] for r in CORRELATIONS])
        prior = np.array(SCALES)[:, None, None, None] ** 2 * correlations * np.outer(units, units)
        prior = prior.reshape(-1, 2, 2)  # K 2 2
        total = prior + np.eye(2) * self.errors.T[:, None, :, None]  # N K 2 2
        self.inverse = np.linalg.inv(total)
        self.log_size = -0.5 * np.linalg.slogdet(total)[1]  # N K, the log of each normal's constant
        # from an observed difference to the posterior mean of the true one, N K 2 2
        self.gain = prior @ self.inverse
        # what is left open of a true difference: in rounding it may lose its symmetry, or a hair of its eigenvalues
        left = prior - self.gain @ prior
        values, vectors = np.linalg.eigh((left + left.swapaxes(-1, -2)) / 2)
        self.root = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]

    def draw(
        self, differences: np.ndarray, weights: list[np.ndarray], generator: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return true differences, (2, N), and how many arms are of each scale and of each correlation."""
        points, arms = differences.T, np.arange(differences.shape[1])  # N 2, N
        fit = np.einsum("ni,nkij,nj->nk", points, self.inverse, points)
        prior = np.log(np.maximum(np.outer(*weights), 1e-300)).ravel()  # K
        # the largest of these is a draw by their probabilities (Gumbel)
        parts = (prior + self.log_size - 0.5 * fit + generator.gumbel(size=fit.shape)).argmax(1)
        noise = np.einsum("nij,nj->ni", self.root[arms, parts], generator.standard_normal(points.shape))
        truth = np.einsum("nij,nj->ni", self.gain[arms, parts], points) + noise
        scales, correlations = np.divmod(parts, len(CORRELATIONS))
        counts = [np.bincount(scales, minlength=len(SCALES)), np.bincount(correlations, minlength=len(CORRELATIONS))]
        return truth.T, counts
