"""Two Linears with an activation between them: out(act(up x)), four times as wide inside.

gelu       x Phi(x)                                                     Hendrycks 2016, arXiv:1606.08415
gelu_tanh  its tanh form, 0.5 x (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3)))  GPT-2; at most 4.73e-4 away
relu       max(0, x)                                                    Vaswani 2017, arXiv:1706.03762
relu2      max(0, x)^2                                                  Primer, arXiv:2109.08668
leaky_relu2  relu2 whose negative side is (x / 2)^2, so that no feature dies      modded-nanogpt's speedruns (2026)
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.mlp import MapRows, Mlp
from gptlab.model.shape import Shape

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "leaky_relu2": lambda x: F.leaky_relu(x, 0.5).square(),
}


class PlainMlp(Mlp):
    """MLP of two Linears.

    activation  between them
    hidden      inner width; null is 4 x width
    bias        of the Linears
    """

    def __init__(
        self,
        shape: Shape,
        layer: int = 0,
        *,
        activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "leaky_relu2"] = "gelu",
        hidden: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.hidden = 4 * shape.width if hidden is None else hidden
        if self.hidden < 1:
            raise ValueError(f"hidden={hidden} is not positive; null fits model.width={shape.width}")
        self.up = nn.Linear(shape.width, self.hidden, bias)
        self.out = nn.Linear(self.hidden, shape.width, bias)

    def compute(self, x, *, up: MapRows, out: MapRows) -> Tensor:
        return out(self.activation(up(x)))
