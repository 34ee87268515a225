"""Kernels of attention, alone: the plain formula against torch's fused ones, on random numbers.

naive                         every score written out (`attend`)
math flash efficient cudnn    scaled_dot_product_attention, held to one backend (torch.nn.attention.sdpa_kernel)
flex                          FlexAttention, compiled for each case; it has no backward on CPU

Random numbers, since all ones make all weights equal, whatever the scores: a kernel that is wrong would pass. Before a
kernel is timed, output and gradients are held against the plain formula in double precision. A kernel that does not
take a case is counted in `cases refused`, and has no time there. All see causally, through a window where there is one.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.study.tools.timing import Place

NAIVE = "naive"
FUSED = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}
KERNELS = (NAIVE, *FUSED, "flex")
TOLERANCE = {True: 1e-4, False: 5e-2}
"""In parts of the largest number: in 32 bits, and in bf16, which has 8."""


class Case(NamedTuple):
    """What all kernels are given; `window`: keys that a query sees, none for all."""

    batch: int
    length: int
    heads: int
    kv_heads: int
    head: int
    window: int | None = None


class Kernels(Study):
    """lengths, heads, windows: null follows the recipe. kernels: the plain formula is always among them."""

    def __init__(
        self,
        *,
        kernels: list[str] | None = None,
        lengths: list[int] | None = None,
        heads: list[int] | None = None,
        kv_heads: list[int],
        windows: list[int] | None = None,
        batch: int = 1,
        rounds: int = 12,
    ) -> None:
        for name, given in (("lengths", lengths), ("heads", heads), ("kv_heads", kv_heads), ("windows", windows)):
            if given and min(given) < 1:
                raise ValueError(f"{name}={given} has a number below 1; give numbers > 0")
        for name, value in (("batch", batch), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"{name}={value} is less than 1; give 1 or more")
        for name in kernels or ():
            if name not in KERNELS:
                raise ValueError(f"kernels={name} is no kernel; choose from {', '.join(KERNELS)}")
        self.kernels, self.lengths, self.heads = kernels, lengths, heads
        self.kv_heads, self.windows, self.batch, self.rounds = kv_heads, windows, batch, rounds

    def check(self, arms: dict[str, Recipe]) -> None:
        for name, recipe in arms.items():
            model = recipe.settings.model
            if model.head is None and model.width % model.heads:
                raise Refused(f"{name}: model.heads={model.heads} does not divide model.width={model.width}")
            for value in self.kv_heads:
                if model.heads % value:
                    raise Refused(f"{name}: study.kv_heads={value} does not divide model.heads={model.heads}; try 1")

    def cases(self, recipe: Recipe) -> dict[str, Case]:
        """One thing is changed at a time; by `what=number`."""
        model = recipe.settings.model
        own = Case(self.batch, model.context, model.heads, model.heads, model.head or model.width // model.heads)
        context, heads = own.length, own.heads
        lengths = self.lengths if self.lengths is not None else [context // 4, context // 2, context, 2 * context]
        several = self.heads if self.heads is not None else [heads // 2, heads, 2 * heads]
        windows = self.windows if self.windows is not None else [context // 4]
        return {
            **{f"length={n}": own._replace(length=n) for n in lengths if n},
            **{f"heads={n}": own._replace(heads=n, kv_heads=n) for n in several if n},
            **{f"kv_heads={n}": own._replace(kv_heads=n) for n in self.kv_heads},
            **{f"window={n}": own._replace(window=n) for n in windows if n},
        }

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import Place, turns

        rows, refused, off = [], {}, {}
        for name, recipe in arms.items():
            place, prefix = Place(recipe), f"{name}: " if len(arms) > 1 else ""
            names = self.kernels or [one for one in KERNELS if one != "flex" or place.device.type == "cuda"]
            for case, what in self.cases(recipe).items():
                for kind, backward in (("forward", False), ("forward and backward", True)):
                    bench = Tried(what, place, block, backward)
                    acts: dict[str, Callable[[], Any]] = {}
                    for kernel in dict.fromkeys([NAIVE, *names]):
                        act, told = bench.tried(kernel)
                        refused[kernel] = refused.get(kernel, 0) + (act is None)
                        if act is not None:
                            acts[kernel], off[kernel] = act, max(told, off.get(kernel, 0.0))
                    times = turns({**acts, AA_CONTROL: acts[NAIVE]}, float("inf"), self.rounds)
                    rows += [Row(one, block, f"{prefix}ms {kind} {case}", ms) for one, ms in times.items()]
        for metric, found in (("cases refused", refused), ("off", off)):
            rows += [Row(kernel, block, metric, value) for kernel, value in found.items()]
        return rows


class Tried:
    """A case with its numbers, and what the plain formula says of them in double precision."""

    def __init__(self, case: Case, place: "Place", seed: int, backward: bool) -> None:
        import torch

        from gptlab.model.forward_pass import PassMask
        from gptlab.model.mask import Mask

        draws = torch.Generator().manual_seed(seed)
        self.place, self.backward = place, backward
        shapes = [(case.batch, case.length, heads, case.head) for heads in (case.heads, case.kv_heads, case.kv_heads)]
        exact = [torch.randn(shape, generator=draws, dtype=torch.float64).to(place.device) for shape in shapes]
        self.given = [one.to(torch.float32 if place.wide else torch.bfloat16).requires_grad_(backward) for one in exact]
        self.slope = torch.randn(shapes[0], generator=draws, dtype=torch.float64).to(place.device)
        mask, at = Mask(case.window), torch.arange(case.length, device=place.device)[None]
        self.sight = PassMask(mask, at, at, mask.whole(case.length))
        self.wanted = self.said(NAIVE, [one.detach().double().requires_grad_(backward) for one in self.given])

    def said(self, kernel: str, given: "list[Tensor]") -> "list[Tensor]":
        """The output, or with backward the gradients of q, k and v, which need it."""
        import torch

        from gptlab.model import attention_kernels as attend
        from gptlab.model.attention_kernels import attend as attended

        with ExitStack() as held:
            held.enter_context(attend.kernel("sdpa" if kernel in FUSED else kernel))
            if kernel in FUSED:
                from torch.nn.attention import SDPBackend, sdpa_kernel

                held.enter_context(sdpa_kernel(getattr(SDPBackend, FUSED[kernel])))
            held.enter_context(torch.set_grad_enabled(self.backward))
            way = torch.compile(attended, dynamic=False) if kernel == "flex" else attended
            q, k, v = given
            out = way(q, k, v, self.sight)
            return [*torch.autograd.grad(out, given, self.slope.to(out.dtype))] if self.backward else [out]

    def tried(self, kernel: str) -> "tuple[Callable[[], Any] | None, float]":
        """What is to be timed, none if the kernel does not take the case; and how far it is off."""
        import torch

        if kernel == "flex":
            torch._dynamo.reset()  # each case is a graph of its own, and there is a limit to them
        try:
            found = self.said(kernel, self.given)
        except (RuntimeError, NotImplementedError) as error:
            if kernel == NAIVE or "out of memory" in str(error):
                raise
            return None, 0.0
        pairs = list(zip(found, self.wanted, strict=True))
        off = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs)
        if not off <= TOLERANCE[self.place.wide]:
            raise ValueError(f"{kernel} differs from the plain formula by {off:.2g} of the largest number")
        return lambda: self.said(kernel, self.given), off
