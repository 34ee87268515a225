"""Time of attention kernels alone: the plain formula against torch's fused ones, on random numbers.

naive                         every score written out (`attend`)
math flash efficient cudnn    scaled_dot_product_attention, restricted to one backend (torch.nn.attention.sdpa_kernel)
flex                          FlexAttention, compiled for each case; it has no backward on CPU

Inputs are random, since equal ones make all weights equal whatever the scores, so that a wrong kernel would pass.
Before a kernel is timed, its output and gradients are compared with the plain formula in double precision. A kernel
that does not take a case is counted in `cases refused`, and has no time there. All are causal, through a window where
there is one.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.stats.labels import label_arm
from gptlab.stats.measurements import Row
from gptlab.stats.timing import AA_CONTROL
from gptlab.study import Build, Study

if TYPE_CHECKING:
    from torch import Tensor

    from gptlab.study.tools.timing import Placement

NAIVE = "naive"
FUSED = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}
KERNELS = (NAIVE, *FUSED, "flex")
TOLERANCE = {True: 1e-4, False: 5e-2}
"""Largest difference in parts of the largest number, by full precision: in 32 bits, and in bf16, which has 8."""


class AttentionCase(NamedTuple):
    """Sizes that all kernels are given; `window` is the number of keys that a query sees, None for all."""

    batch: int
    length: int
    heads: int
    kv_heads: int
    head: int
    window: int | None = None


class Kernels(Study):
    """Time attention kernels over lengths, heads, key heads and windows, one changed at a time.

    kernels   names of kernels; null takes all, flex on GPUs alone. The plain formula is always among them
    lengths   numbers of tokens; null is 1/4, 1/2, 1 and 2 of the recipe's context
    heads     numbers of heads; null is 1/2, 1 and 2 of the recipe's
    kv_heads  numbers of key heads, divisors of the recipe's heads
    windows   keys that a query sees; null is a quarter of the context
    batch     sequences of a case
    rounds    rounds in which all kernels are timed, interleaved
    """

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
        for name, numbers in (("lengths", lengths), ("heads", heads), ("kv_heads", kv_heads), ("windows", windows)):
            if numbers and min(numbers) < 1:
                raise ValueError(f"{name}={numbers} has a number below 1; give numbers > 0")
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

    def list_cases(self, recipe: Recipe) -> dict[tuple[str, int], AttentionCase]:
        """Return the cases of a recipe by (size, number), each with one size changed."""
        model = recipe.settings.model
        base = AttentionCase(
            batch=self.batch,
            length=model.context,
            heads=model.heads,
            kv_heads=model.heads,
            head=model.head or model.width // model.heads,
        )
        context, heads = base.length, base.heads
        lengths = self.lengths if self.lengths is not None else [context // 4, context // 2, context, 2 * context]
        head_counts = self.heads if self.heads is not None else [heads // 2, heads, 2 * heads]
        windows = self.windows if self.windows is not None else [context // 4]
        # a half or a quarter of 1 is 0, and left out
        cases = {("length", n): base._replace(length=n) for n in lengths if n}
        cases |= {("heads", n): base._replace(heads=n, kv_heads=n) for n in head_counts if n}
        cases |= {("kv_heads", n): base._replace(kv_heads=n) for n in self.kv_heads}
        cases |= {("window", n): base._replace(window=n) for n in windows if n}
        return cases

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        from gptlab.study.tools.timing import Placement, time_interleaved

        rows, refused_cases, largest_errors = [], {}, {}
        for name, recipe in arms.items():
            placement, prefix = Placement(recipe), f"{name}: " if len(arms) > 1 else ""
            # flex compiles each case anew, and has no backward on CPU
            kernels = self.kernels or [
                kernel for kernel in KERNELS if kernel != "flex" or placement.device.type == "cuda"
            ]
            for (size, number), case in self.list_cases(recipe).items():
                for kind, backward in (("forward", False), ("forward and backward", True)):
                    bench = KernelBench(case, placement, block, backward)
                    runs: dict[str, Callable[[], Any]] = {}
                    for kernel in dict.fromkeys([NAIVE, *kernels]):
                        run_kernel, error = bench.prepare_kernel(kernel)
                        refused_cases[kernel] = refused_cases.get(kernel, 0) + (run_kernel is None)
                        if run_kernel is not None:
                            runs[kernel] = run_kernel
                            largest_errors[kernel] = max(error, largest_errors.get(kernel, 0.0))
                    # a kernel that refused the case is missing here, and counted
                    times = time_interleaved({**runs, AA_CONTROL: runs[NAIVE]}, float("inf"), self.rounds)
                    values = (("", f"{prefix}ms {kind}"), (size, str(number)))
                    metric = label_arm(values)
                    rows += [Row(arm, block, metric, ms, metric_values=values) for arm, ms in times.items()]
        for metric, by_kernel in (("cases refused", refused_cases), ("off", largest_errors)):
            rows += [Row(kernel, block, metric, value) for kernel, value in by_kernel.items()]
        return rows


class KernelBench:
    """The inputs of one case, and the plain formula's results in double precision."""

    def __init__(self, case: AttentionCase, placement: "Placement", seed: int, backward: bool) -> None:
        import torch

        from gptlab.model.forward_pass import PassMask
        from gptlab.model.mask import Mask

        generator = torch.Generator().manual_seed(seed)
        self.placement, self.backward = placement, backward
        # q (B, T, H, D), k and v (B, T, K, D)
        shapes = [(case.batch, case.length, heads, case.head) for heads in (case.heads, case.kv_heads, case.kv_heads)]
        exact = [torch.randn(shape, generator=generator, dtype=torch.float64).to(placement.device) for shape in shapes]
        dtype = torch.float32 if placement.full_precision else torch.bfloat16
        self.inputs = [tensor.to(dtype).requires_grad_(backward) for tensor in exact]
        self.output_gradient = torch.randn(shapes[0], generator=generator, dtype=torch.float64).to(placement.device)
        # positions (1, T) of queries and keys alike
        mask, positions = Mask(case.window), torch.arange(case.length, device=placement.device)[None]
        self.pass_mask = PassMask(mask, positions, positions, mask.is_plain_causal(case.length))
        # of the inputs as they were rounded: what is held against it is the kernel, not bf16
        doubles = [tensor.detach().double().requires_grad_(backward) for tensor in self.inputs]
        self.reference = self.run_attention(NAIVE, doubles)

    def run_attention(self, kernel: str, inputs: "list[Tensor]") -> "list[Tensor]":
        """Return the output (B, T, H, D), or with backward the gradients of q, k and v, which need it."""
        import torch

        from gptlab.model import attention_kernels

        with ExitStack() as stack:
            stack.enter_context(attention_kernels.force_kernel("sdpa" if kernel in FUSED else kernel))
            if kernel in FUSED:
                from torch.nn.attention import SDPBackend, sdpa_kernel

                stack.enter_context(sdpa_kernel(getattr(SDPBackend, FUSED[kernel])))
            stack.enter_context(torch.set_grad_enabled(self.backward))
            attend = attention_kernels.attend
            if kernel == "flex":
                # compiled for this very shape: a kernel for any length would be compared with one for this one
                attend = torch.compile(attend, dynamic=False)
            q, k, v = inputs
            out = attend(q, k, v, self.pass_mask)
            return [*torch.autograd.grad(out, inputs, self.output_gradient.to(out.dtype))] if self.backward else [out]

    def prepare_kernel(self, kernel: str) -> "tuple[Callable[[], Any] | None, float]":
        """Return the call to be timed, None if the kernel does not take the case, and its largest relative error."""
        import torch

        if kernel == "flex":
            torch._dynamo.reset()  # each case is a graph of its own, and there is a limit to them
        try:
            results = self.run_attention(kernel, self.inputs)
        except (RuntimeError, NotImplementedError) as error:
            if kernel == NAIVE or "out of memory" in str(error):  # neither says that the kernel refuses the case
                raise
            return None, 0.0
        pairs = list(zip(results, self.reference, strict=True))
        largest_error = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs)
        # not >, so that NaN is refused too
        if not largest_error <= TOLERANCE[self.placement.full_precision]:
            raise ValueError(f"{kernel} differs from the plain formula by {largest_error:.2g} of the largest number")
        return lambda: self.run_attention(kernel, self.inputs), largest_error
