"""Products of a mixture of experts, behind one function: each token by the few experts that are chosen for it.

Tokens are sorted by expert, once for each of their experts, and each group meets its own expert:

    loop     one expert after another. A group's size is read from the device, so no compiler takes it
    grouped  torch's F.grouped_mm over all experts at once, their weights stacked (a copy): on GPUs, and where the
             decoder is compiled in bfloat16. It takes float32 and float16 too where it is not compiled, and sides
             of a multiple of 16 bytes
    dense    every expert on every token, what was not chosen weighed by 0: where compiled and not grouped

Loop and grouped cost what the active experts cost; dense costs experts / top_k times as much. `grouped` needs experts
whose Linears are plain: one that a change has altered, and an expert with parameters of its own, go through `loop`,
compiled through `dense`. All three say the same up to rounding. `force_expert_kernel` forces a choice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptlab.model.forward_pass import ForwardPass
from gptlab.model.mlp import Mlp

GROUPED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TRACED_DTYPES = (torch.bfloat16,)
"""Those of which torch 2.13 can infer the result's shape when it traces."""
ALIGNMENT = 16
"""Bytes of which F.grouped_mm wants every stride to be a multiple (torch 2.13)."""
_forced: list[str] = []


def apply_experts(
    experts: Sequence[Mlp], x: Tensor, chosen: Tensor, weights: Tensor, forward_pass: ForwardPass
) -> Tensor:
    """Return the weighed sum of the chosen experts' outputs, (N, width), for tokens x (N, width).

    chosen   experts of each token, (N, top_k)
    weights  of their outputs, (N, top_k)
    """
    name = _forced[-1] if _forced else choose_kernel(experts, x)
    if name == "dense":
        return apply_dense(experts, x, chosen, weights=weights, forward_pass=forward_pass)
    order = chosen.flatten().argsort(stable=True)  # (token, choice) pairs by expert
    ends = torch.searchsorted(chosen.flatten()[order], torch.arange(1, len(experts) + 1, device=x.device))
    rows = x.repeat_interleave(chosen.shape[1], 0)[order]
    y = SORTED_KERNELS[name](experts, rows, ends, forward_pass)
    y = y[order.argsort()].unflatten(0, chosen.shape)  # (N, top_k, width)
    return (weights[..., None] * y).sum(-2)


def choose_kernel(experts: Sequence[Mlp], rows: Tensor) -> str:
    """Choose the kernel: grouped where a compiler or a GPU would wait for the groups' sizes."""
    if not (rows.is_cuda or torch.compiler.is_compiling()):
        return "loop"
    if fits_grouped_mm(experts, rows):
        return "grouped"
    return "dense" if torch.compiler.is_compiling() else "loop"


def fits_grouped_mm(experts: Sequence[Mlp], rows: Tensor) -> bool:
    """Return whether F.grouped_mm takes the weights of these experts, in the precision of this pass."""
    dtype = find_product_dtype(rows)
    if dtype not in (TRACED_DTYPES if torch.compiler.is_compiling() else GROUPED_DTYPES):
        return False
    # the products must be those of Linears alone, by a formula that takes other Linears in their place
    has_formula = type(experts[0]).compute is not Mlp.compute
    if not has_formula or list(experts[0].parameters(recurse=False)):
        return False
    if not all(is_plain(linear) for expert in experts for linear in expert.children()):
        return False
    sides = [side for linear in experts[0].children() for side in linear.weight.shape]  # type: ignore[union-attr]
    return all(side * dtype.itemsize % ALIGNMENT == 0 for side in sides)


def find_product_dtype(rows: Tensor) -> torch.dtype:
    """Return the type in which a Linear would multiply these rows."""
    device = rows.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype


def is_plain(linear: nn.Module) -> bool:
    """Return whether a module is a Linear that nothing has altered: no other weight, no hook."""
    return (
        type(linear) is nn.Linear
        and "weight" in linear._parameters
        and not (linear._forward_hooks or linear._forward_pre_hooks)
    )


def apply_in_a_loop(experts: Sequence[Mlp], rows: Tensor, ends: Tensor, forward_pass: ForwardPass) -> Tensor:
    """Apply each expert to its rows (N, width), which are sorted by expert and end before `ends` (experts,)."""
    outputs = []
    for expert, part in zip(experts, rows.tensor_split(ends[:-1].tolist()), strict=True):
        # in training an expert without rows is called too, for gradients of 0: optimizers and DDP know no missing ones
        outputs.append(expert(part, forward_pass) if len(part) or torch.is_grad_enabled() else part)
    return torch.cat(outputs)


def apply_grouped(experts: Sequence[Mlp], rows: Tensor, ends: Tensor, _: ForwardPass) -> Tensor:
    """Compute all experts by the first one's formula, each Linear replaced by a grouped product."""
    products: dict[str, Callable[[Tensor], Tensor]] = {}
    for name in dict(experts[0].named_children()):
        linears = [expert.get_submodule(name) for expert in experts]
        products[name] = partial(multiply_grouped, linears, ends=ends.int())
    return experts[0].compute(rows, **products)


def multiply_grouped(linears: Sequence[Any], x: Tensor, *, ends: Tensor) -> Tensor:
    """Return x (N, in) times the weights of its groups, (N, out); group i ends before row ends[i]."""
    dtype = find_product_dtype(x)
    weights = torch.stack([linear.weight for linear in linears]).to(dtype)  # (experts, out, in)
    y = F.grouped_mm(x.to(dtype), weights.transpose(1, 2), offs=ends)
    if linears[0].bias is None:
        return y
    # the expert of each row, (N,)
    expert = torch.searchsorted(ends, torch.arange(len(x), device=x.device, dtype=torch.int32), right=True)
    biases = torch.stack([linear.bias for linear in linears])  # (experts, out)
    return y + biases[expert]


def apply_dense(
    experts: Sequence[Mlp], x: Tensor, chosen: Tensor, weights: Tensor, forward_pass: ForwardPass
) -> Tensor:
    """Apply every expert to every token, and weigh what was not chosen by 0."""
    no_weights = torch.zeros_like(weights[:, :1]).repeat(1, len(experts))
    all_weights = no_weights.scatter(1, chosen, weights)  # (N, experts)
    y = torch.zeros_like(x)
    for weight, expert in zip(all_weights.split(1, 1), experts, strict=True):
        y = y + weight * expert(x, forward_pass)
    return y


SORTED_KERNELS = {"loop": apply_in_a_loop, "grouped": apply_grouped}


@contextmanager
def force_expert_kernel(name: str) -> Iterator[None]:
    """Force one kernel inside the block."""
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()
