"""Fixed point by width: rounded after training (PTQ), or in the last steps of it (QAT), against floats.

float        the whole training in floats
ptq width=w  the same training, then rounded
qat width=w  the same first steps, then as many steps under rounding as are left

All arms have the same seeds, batches and number of steps, so that QAT differs from floats by its rounding alone, and
qat is not compared with ptq by more training. Other formats are an axis: change=[quantize] and, say,
format@change.quantize.weight=mxfp4,mxint8.
"""

from typing import ClassVar, Literal

from gptlab.config.recipe import Recipe
from gptlab.study import Study, append_change


class Quantize(Study):
    """Compare widths of fixed point, rounded after or during training.

    widths    in bits
    rounds    what is rounded: weight, activation or both
    fraction  row or tensor fits the point to the largest magnitude; half puts it at half the width, as MASE does
    last      share of the steps that QAT rounds
    """

    together: ClassVar[bool] = False
    shares_training: ClassVar[bool] = True

    def __init__(
        self,
        *,
        widths: list[int],
        rounds: Literal["weight", "activation", "both"] = "weight",
        fraction: Literal["row", "tensor", "half"] = "tensor",
        last: float = 0.5,
    ) -> None:
        if not widths or min(widths) < 2 or max(widths) > 32:
            raise ValueError(f"widths={widths} are no widths from 2 to 32; try [4,8,16]")
        if not 0 < last < 1:
            raise ValueError(f"last={last} is not in (0, 1); 0.5 rounds the second half")
        self.widths, self.rounds, self.fraction, self.last = sorted({*widths}), rounds, fraction, last

    def arms(self, base: Recipe) -> dict[str, list[str]]:
        steps = base.settings.steps
        # after the last step nothing learns any more: rounding then is rounding after training
        starts = {"ptq": steps, "qat": round(steps * (1 - self.last))}
        arms: dict[str, list[str]] = {"float": []}
        for method, start in starts.items():
            for width in self.widths:
                arms[f"{method} width={width}"] = self.make_overrides(base, width, start)
        return arms

    def make_overrides(self, base: Recipe, width: int, start: int) -> list[str]:
        """Return the words that round to `width` bits after `start` steps."""
        node, fraction = "change.quantize", "null" if self.fraction == "half" else self.fraction
        overrides = [append_change(base, "quantize"), f"{node}.start={start}"]
        # the change rounds weights unless it is told not to
        overrides += [f"{node}.weight=null"] if self.rounds == "activation" else []
        for operand in ("weight", "activation"):
            if self.rounds in (operand, "both"):
                overrides += [f"format@{node}.{operand}=integer", f"{node}.{operand}.width={width}"]
                overrides += [f"{node}.{operand}.fraction_width={fraction}"]
        return overrides

    def versus(self) -> list[tuple[str, str]]:
        return [(f"qat width={width}", f"ptq width={width}") for width in self.widths]
