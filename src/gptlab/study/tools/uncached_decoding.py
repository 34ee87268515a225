"""Decoding without caches, made cheaper op by op: which rows of the text must be computed again for one more token?

Every op stores its output for all rows, so that each toggle can restrict one kind of op to the last row:

attention   softmax(q k^T) v        linear  every Linear of the blocks        activation  of the MLP
residual    the sums                norm    every norm                        head        logits of the last token alone
table       the activation is looked up in 2^16 halves (x <= -10 gives 0, x >= 10 gives x)

A row computed again has its old value, so all 2^7 combinations write the same text (the table apart). There is no
switch for keys and values: they are stored where `linear` is. The order is that of staticgrad
(github.com/Malav-P/staticgrad), whose table of 414 to 26 ms a token this reproduces.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.errors import Refused
from gptlab.model.attention_kernels import KERNELS, force_kernel
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.model.forward_pass import PassMask
from gptlab.model.norm import Norm

TOGGLES = ("attention", "linear", "activation", "residual", "norm", "head", "table")
"""In the order in which study=decode adds them."""
KERNEL_NAME = "one row"


class UncachedDecoder:
    """A decoder, by the same weights, that rereads its text of up to `capacity` tokens for each token.

    toggles  kinds of op that compute the last row alone
    stored   output of each op for all rows, (1, capacity, ...), by name
    """

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        # parameters are shared; the modules are copied, since their forward methods are replaced
        self.decoder = copy.deepcopy(decoder, {id(p): p for p in decoder.parameters()})
        self.capacity, self.length = capacity, 0
        self.toggles: frozenset[str] = frozenset()
        self.stored: dict[str, Tensor] = {}
        self.fresh, self.calls = True, 0
        for name, module in self.decoder.blocks.named_modules():
            if isinstance(module, nn.Linear | Norm):
                module.forward = self.wrap_op("norm" if isinstance(module, Norm) else "linear", name, module.forward)
        for layer, block in enumerate(self.decoder.layers):
            mlp: Any = block.mlp
            if hasattr(mlp, "activation"):
                activation = wrap_activation(self, mlp.activation)
                mlp.activation = self.wrap_op("activation", f"{layer} activation", activation)
            for half, residual in (("attention", block.attention_residual), ("mlp", block.mlp_residual)):
                residual.write = self.wrap_op("residual", f"{layer} {half} sum", residual.write)  # type: ignore[method-assign]
        # its input is not in `blocks`, where the loop above looked
        self.decoder.norm.forward = self.wrap_op("norm", "last norm", self.decoder.norm.forward)

    def wrap_op(self, toggle: str, name: str, op: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Return a row-wise op that computes the last row alone when its toggle is set."""

        def forward(*inputs: Tensor) -> Tensor:
            if not all(isinstance(x, Tensor) and x.dim() == 3 and x.shape[1] == self.length for x in inputs):
                raise Refused(
                    f"uncached decoding needs ops that see a text row by row, and {name} does not; "
                    "leave its variants out of study.rungs"
                )
            # all rows, as long as this kind of op is not restricted
            if self.fresh or toggle not in self.toggles:
                return self.store_rows(name, op(*inputs), all_rows=True)
            return self.store_rows(name, op(*(x[:, -1:] for x in inputs)), all_rows=False)

        return forward

    def store_rows(self, name: str, rows: Tensor, all_rows: bool) -> Tensor:
        """Return all rows of an op's output, (1, T, ...), after storing those computed now: all, or the last."""
        if self.fresh:
            self.stored[name] = rows.new_empty(1, self.capacity, *rows.shape[2:])
            self.stored[name][:, : self.length] = rows
        if all_rows:
            return rows
        self.stored[name][:, self.length - 1] = rows[:, 0]
        return self.stored[name][:, : self.length]

    def attend(self, q, k, v, pass_mask, *, bias, **options) -> Tensor:
        """Compute attention by the plain formula, for all queries or the last."""
        self.calls += 1
        name, last_only = f"attention {self.calls}", not self.fresh and "attention" in self.toggles
        if last_only:
            # q (1, H, T, D), bias (1, H, T, S): the last query alone
            q, bias = q[:, :, -1:], None if bias is None else bias[:, :, -1:]
            last_position = pass_mask.query_positions[:, -1:]
            pass_mask = PassMask(pass_mask.mask, last_position, pass_mask.key_positions, causal=False)
        out = KERNELS["naive"](q, k, v, pass_mask, bias=bias, **options).transpose(1, 2)
        return self.store_rows(name, out, all_rows=not last_only).transpose(1, 2)

    def compute_logits(self, tokens: Tensor, toggles: frozenset[str], fresh: bool = False) -> Tensor:
        """Return the logits (1, V) of the last of the tokens (1, T).

        fresh computes and stores all rows; else all but the last row must have been computed before.
        """
        self.toggles, self.fresh, self.calls = toggles, fresh, 0
        self.length = tokens.shape[1]
        # registered under a name, so that attention needs no hook of its own for this study
        KERNELS[KERNEL_NAME] = self.attend  # type: ignore[assignment]
        with eval_mode(self.decoder), force_kernel(KERNEL_NAME):
            logits = self.decoder.forward(tokens, last="head" in toggles).logits
        # layers without softmax never come to `attend`, and their rows depend on each other
        if self.calls != len(self.decoder.layers):
            raise Refused(
                "uncached decoding needs softmax attention in all layers; leave its variants out of study.rungs"
            )
        assert logits is not None
        return logits[:, -1]


def wrap_activation(decoder: UncachedDecoder, activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return an activation that is looked up when `table` is set."""
    table = tabulate_activation(activation)
    return lambda x: look_up_activation(x, table) if "table" in decoder.toggles and not decoder.fresh else activation(x)


def tabulate_activation(activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the activation of all 2^16 halves, by their bits; 128 KiB."""
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)  # wraps: the upper half are negative numbers
    return activation(bits.view(torch.float16).float()).half()


def look_up_activation(x: Tensor, table: Tensor) -> Tensor:
    """Return activation(x) of any shape, to half precision: 0 from -10 down, x from 10 up."""
    bits = x.half().view(torch.int16).long() & 0xFFFF
    return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, table[bits].to(x.dtype)))
