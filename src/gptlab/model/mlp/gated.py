"""One Linear gates another: out(act(gate x) * up x) (Shazeer 2020, arXiv:2002.05202).

    swiglu  act(x) = x sigmoid(x)        geglu  act(x) = x Phi(x)

Three matrices at 8/3 of the width hold as many parameters as two at 4.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.mlp import MapRows, Mlp
from gptlab.model.shape import Shape

ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu}


class GatedMlp(Mlp):
    """MLP with a gate.

    activation  of the gate: silu (swiglu) or gelu (geglu)
    hidden      inner width; null is 8/3 x width, rounded up to a multiple of 8
    bias        of the Linears
    """

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        activation: Literal["silu", "gelu"] = "silu",
        hidden: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        # 8 ceil(width / 3): kernels of matrix products are slow at widths that 8 does not divide
        self.hidden = -(-8 * shape.width // 24) * 8 if hidden is None else hidden
        if self.hidden < 1:
            raise ValueError(f"hidden={hidden} is not positive; null fits model.width={shape.width}")
        self.gate = nn.Linear(shape.width, self.hidden, bias)
        self.up = nn.Linear(shape.width, self.hidden, bias)
        self.out = nn.Linear(self.hidden, shape.width, bias)

    def compute(self, x, *, gate: MapRows, up: MapRows, out: MapRows) -> Tensor:
        # `gate`, `up` and `out` are Linears, or grouped products where a mixture calls with its experts' rows
        return out(self.activation(gate(x)) * up(x))
