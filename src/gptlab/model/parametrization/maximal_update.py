"""Parametrizations under which every weight learns as much, however wide and deep the decoder, so that rates transfer.

    m = width / base_width        l = layers / base_layers        d = features of a head

mup        muP: Tensor Programs V (Yang 2022, arXiv:2203.03466), table 8, over the width; the depth is not scaled
completep  CompleteP (Dey 2025, arXiv:2505.01618), table 1, over width and depth: each branch is multiplied by 1 / l

    kind      first values   rate of Adam, Lion   of SGD   of Muon     Adam's eps
    input     1              1                    m                    1 / m
    hidden    m^(-1/2)       1 / m                1        m^(-1/2)    1 / m
    output    1 / m          1 / m                1 / m    1 / m       1
    readout   1              1                    m                    1 / m         what it is given is divided by m
    fixed     1              1                    1        1           1

parameter_kinds.py says what the kinds are. A tied head is the embedding, an input, and a readout with the same factors.

Scores are multiplied by sqrt(base_head) / d in place of 1 / sqrt(d). The weight decay is divided by the factor of the
rate, so that a step decays as much as at the base. In the blocks of completep eps is divided by l^alpha, Adam's rate by
l^(1 - alpha), and SGD's multiplied by l^(2 alpha - 1), since gradients there are l^-alpha as large; what an init makes
of the depth it makes of base_layers. alpha = 1 is the paper's.

At the base both are parametrization=standard, bit for bit, so that the rates of model=nano are those of the menu.
All entries of Adam's step are about alike, and n of them add up along n inputs: hence 1 / m. Muon's step of a root mean
square r has singular values r sqrt(n): hence m^(-1/2), since the norm of a step should be sqrt(outputs / inputs) (Yang
2023, arXiv:2310.17813). SOAP's lies between, and neither power held in our check (docs/log.md, 2026-11-30): refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from gptlab.model.attention import Attention
from gptlab.model.init import Init
from gptlab.model.norm import Norm
from gptlab.model.parameter_kinds import Kind, find_kinds
from gptlab.model.parametrization import Parametrization, Scaling, StepFactors, Update
from gptlab.model.shape import Shape

if TYPE_CHECKING:
    from gptlab.model.decoder import Decoder

STD_POWERS: dict[Kind, float] = {"input": 0, "hidden": -0.5, "output": -1, "readout": 0, "fixed": 0}
"""Powers of m by which first values follow the width."""
LR_POWERS: dict[Update, dict[Kind, float]] = {
    "sign": {"input": 0, "hidden": -1, "output": -1, "readout": 0, "fixed": 0},
    "gradient": {"input": 1, "hidden": 0, "output": -1, "readout": 1, "fixed": 0},
    # Muon's rule has only matrices of blocks; a step is r sqrt(max(outputs, inputs)) o with singular values of o near 1
    "spectral": {"input": 0, "hidden": -0.5, "output": -1, "readout": -1, "fixed": 0},
}
EPS_POWERS: dict[Kind, float] = {"input": -1, "hidden": -1, "output": 0, "readout": -1, "fixed": 0}
"""Powers of m by which gradients follow the width."""


class MaximalUpdate(Parametrization):
    """Maximal update parametrization.

    base_width   width at which it is the standard parametrization
    base_head    width of a head there; null is the decoder's own, for heads that are alike at all sizes
    base_layers  layers there; null does not scale the depth (muP)
    alpha        power of the depth by which branches shrink, from 0.5 to 1
    """

    def __init__(
        self, *, base_width: int = 64, base_head: int | None = 16, base_layers: int | None = None, alpha: float = 1.0
    ) -> None:
        for name, value in (("base_width", base_width), ("base_head", base_head), ("base_layers", base_layers)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} is not positive; nano has base_width=64, base_head=16, base_layers=2")
        if not 0.5 <= alpha <= 1:
            raise ValueError(f"alpha={alpha} is not in 0.5 .. 1; 1 is CompleteP")
        self.base_width, self.base_head, self.base_layers, self.alpha = base_width, base_head, base_layers, alpha

    def rebase(self, shape: Shape) -> Shape:
        branch_factor = (shape.layers / self.base_layers) ** -self.alpha if self.base_layers else 1.0
        return replace(
            shape, base_width=self.base_width, base_head=self.base_head or shape.head, branch_factor=branch_factor
        )

    def find_scaling(self, decoder: "Decoder", build_wider: "Callable[[], Decoder]") -> "MaximalScaling":
        refuse_unscalable_parts(decoder)
        shape = decoder.shape
        return MaximalScaling(
            kinds=find_kinds(decoder, build_wider()),
            width_ratio=shape.width / self.base_width,
            depth_ratio=shape.layers / self.base_layers if self.base_layers else 1.0,
            alpha=self.alpha,
        )


@dataclass(frozen=True)
class MaximalScaling(Scaling):
    """Factors of one decoder: kinds of its parameters by name, its width and depth over those of the base."""

    kinds: dict[str, Kind]
    width_ratio: float
    depth_ratio: float
    alpha: float

    def find_init_factor(self, name: str, module: nn.Module, init: Init) -> float:
        powers = init.std_powers(module, name)
        if powers is None:
            raise ValueError(
                f"parametrization: init ({type(init).__name__}) does not say how its first values follow the sizes; "
                "give it std_powers, or say parametrization=standard"
            )
        kind = self.kinds[name]
        # what the init does by itself: its inputs grow where the kind says so, the larger side where any side grows
        inputs = powers.inputs * (kind in ("hidden", "output", "readout"))
        larger = powers.larger * (kind != "fixed")
        width = self.width_ratio ** (STD_POWERS[kind] - powers.width - inputs - larger)
        return width * self.depth_ratio**-powers.layers

    def find_step_factors(self, name: str, update: Update) -> StepFactors:
        if name not in self.kinds:
            raise ValueError(
                f"parametrization: {name} is no parameter of the decoder before its changes (change=lora adds such), "
                "and has no rule; say parametrization=standard"
            )
        kind = self.kinds[name]
        # both 1 at the base width
        lr, eps = self.width_ratio ** LR_POWERS[update][kind], self.width_ratio ** EPS_POWERS[kind]
        if name.startswith("blocks."):
            # the gradient of a branch is as small as its factor, which a step of its size makes good
            power = 2 * self.alpha - 1 if update == "gradient" else self.alpha - 1
            lr, eps = lr * self.depth_ratio**power, eps * self.depth_ratio**-self.alpha
        return StepFactors(lr, eps)


def refuse_unscalable_parts(decoder: "Decoder") -> None:
    """Raise ValueError for the first part of a decoder whose size would follow width or depth all the same."""
    shape = decoder.shape
    for part in decoder.modules():
        kind, remedy = type(part).__name__, ""
        if isinstance(part, Attention) and not part.scales_with_head and shape.score_factor != 1:
            remedy = (
                f"attention ({kind}), whose scores nothing scales by sqrt(base_head={shape.base_head}) / "
                f"{shape.head}; say parametrization.base_head={shape.head}, and keep heads as wide at all sizes"
            )
        elif isinstance(part, Norm) and part.follows_width and shape.readout_factor != 1:
            remedy = f"norm ({kind}), which computes from the width itself; take norm=rmsnorm"
        if remedy:
            raise ValueError(f"parametrization does not go with {remedy}")
    # muP leaves the depth alone, so any residual will do
    if shape.branch_factor == 1:
        return
    for block in decoder.layers:
        for slot, part in (("residual", block.attention_residual), ("residual", block.mlp_residual), ("block", block)):
            if not part.adds_branches:
                raise ValueError(
                    f"parametrization=completep does not go with {slot} ({type(part).__name__}), whose stream is no "
                    "sum of branches that the depth could divide; take parametrization=mup, or residual=pre"
                )
