"""Two Linears with StarReLU between them: out(star_relu(up x)), four times as wide inside. arXiv:2210.13452."""

from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.mlp import Mlp
from gptlab.model.shape import Shape
from gptlab_example.activation import star_relu


class StarReluMlp(Mlp):
    """MLP of two Linears with StarReLU.

    scale  factor of the squared part; not learnt here
    shift  what is added to it
    bias   of the Linears
    """

    def __init__(
        self, shape: Shape, layer: int = 0, *, scale: float = 0.8944, shift: float = -0.4472, bias: bool = False
    ) -> None:
        super().__init__()
        if scale == 0:
            raise ValueError("scale=0 leaves no activation; try 0.8944")
        self.scale, self.shift, self.hidden = scale, shift, 4 * shape.width
        self.up = nn.Linear(shape.width, self.hidden, bias)
        self.out = nn.Linear(self.hidden, shape.width, bias)

    def forward(self, x: Tensor, forward_pass: ForwardPass) -> Tensor:
        return self.out(star_relu(self.up(x), self.scale, self.shift))
