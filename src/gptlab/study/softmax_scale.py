"""Why scores are divided by sqrt(D): statistics and gradients of softmax, raw and scaled, over the width D of a head.

    q, k, v = N(0, 1)        z = scale q k^T        p = softmax(z)        y = p v

logit SD               sqrt(D) raw, 1 scaled
Jacobian               Frobenius norm of dp/dz = diag(p) - p p^T of a query, by mean and by median over queries
gradient q, median     norm of dL/dq of a query, for dL/dy of length 1 in any direction
gradient W_q, W_k      norm of dL/dW where tokens are at right angles and of length 1: that of dL/dq over all queries

Raw scores of wide heads saturate softmax: most queries copy one token, and their gradients vanish. Means hide that: the
few queries that waver between two tokens keep a large Jacobian, and raw scores pass it on sqrt(D) times as large, so
that W_q learns from them alone. All tokens see each other, as in Vaswani 2017 (arXiv:1706.03762, note 4).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.labels import label_arm
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study

if TYPE_CHECKING:
    from torch import Generator, Tensor


class SoftmaxScale(Study):
    """Measure softmax on random queries and keys, without a decoder.

    heads   widths of a head
    length  tokens of a draw, which all see each other
    draws   number of draws; each block has a seed of its own
    """

    def __init__(self, *, heads: list[int], length: int = 64, draws: int = 64) -> None:
        if not heads or min(heads) < 1:
            raise ValueError(f"heads={heads} is no list of positive widths; give some, [16,64]")
        for name, least, value in (("length", 2, length), ("draws", 1, draws)):
            if value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        self.heads, self.length, self.draws = heads, length, draws

    def check(self, arms: dict[str, Recipe]) -> None:
        if len(arms) > 1:
            raise Refused("study=softmax_scale measures softmax, no decoder; leave the axes out, or sweep study.heads")

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        import torch

        rows = []
        for kind in ("raw", "scaled"):
            for head in self.heads:
                generator = torch.Generator().manual_seed(block)  # the same numbers for both
                scale = 1.0 if kind == "raw" else head**-0.5
                draws = [measure_draw(head, self.length, scale, generator) for _ in range(self.draws)]
                values = (("", kind), ("head", str(head)))
                for name, value in pool_draws(draws).items():
                    rows.append(Row(label_arm(values), block, name, value, arm_values=values))
        return rows


def measure_draw(head: int, length: int, scale: float, generator: "Generator") -> "dict[str, Tensor]":
    """Return the statistics of one draw: (T,) of queries, () of matrices."""
    import torch

    q, k, v, output_gradient = (torch.randn(length, head, generator=generator) for _ in range(4))
    output_gradient = output_gradient / output_gradient.norm(dim=-1, keepdim=True)
    z = (scale * q @ k.T).double()  # (T, T), no mask
    p = z.softmax(-1)
    p_gradient = (output_gradient @ v.T).double()  # dL/dp
    # J^T g for J = diag(p) - p p^T
    z_gradient = p * (p_gradient - (p * p_gradient).sum(-1, keepdim=True))  # dL/dz
    q_gradient, k_gradient = scale * z_gradient @ k.double(), scale * z_gradient.T @ q.double()
    return {
        "logit SD": z.std(),
        "max probability": p.amax(-1),
        "entropy": -(p * z.log_softmax(-1)).sum(-1),
        "Jacobian": jacobian_norm(p),
        "gradient q": q_gradient.norm(dim=-1),
        "gradient W_q": q_gradient.norm(),
        "gradient W_k": k_gradient.norm(),
    }


def jacobian_norm(p: "Tensor") -> "Tensor":
    """Return Frobenius norms of diag(p) - p p^T, of probabilities (T, S) to (T,)."""
    squares, cubes = p.square().sum(-1), p.pow(3).sum(-1)
    # sum_i p_i^2 - 2 p_i^3 + (sum_i p_i^2)^2; below 0 by rounding alone
    return (squares - 2 * cubes + squares.square()).clamp(min=0).sqrt()


def pool_draws(draws: "list[dict[str, Tensor]]") -> dict[str, float]:
    """Return means over all draws, and medians over all queries of what is skewed."""
    import torch

    summary = {}
    for name in draws[0]:
        # all queries of all draws: a median of medians would be of something else
        values = torch.cat([draw[name].reshape(-1) for draw in draws])
        if name == "gradient q":
            summary["gradient q, median"] = values.median().item()
            continue
        summary[name] = values.mean().item()
        if name == "Jacobian":
            summary["Jacobian, median"] = values.median().item()
    return summary
