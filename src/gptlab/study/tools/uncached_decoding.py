"""Decoding without caches, made cheaper op by op: which rows of the text must be computed again for one more token?

Every op keeps its output for all rows, so each can be told, alone, to compute the last row only:

attention   softmax(q k^T) v        linear  every Linear of the blocks        activation  of the MLP
residual    the sums                norm    every norm                        head        logits of the last token alone
table       the activation is looked up in 2^16 halves (x <= -10 gives 0, x >= 10 gives x)

An old row computed again has its old value, so all 2^7 combinations write the same text (the table apart). There is no
switch for keys and values: they are kept where `linear` is. The order is that of staticgrad
(github.com/Malav-P/staticgrad), whose table of 414 to 26 ms a token this retells.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.errors import Refused
from gptlab.model.attention_kernels import KERNELS, kernel
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.model.forward_pass import PassMask
from gptlab.model.norm import Norm

TOGGLES = ("attention", "linear", "activation", "residual", "norm", "head", "table")
"""In the order of the ladder."""
KERNEL = "one row"


class Ladder:
    """A decoder, by the same weights, that rereads its text of up to `room` tokens for each token. `on`: the toggles
    that are set."""

    def __init__(self, decoder: Decoder, room: int) -> None:
        self.decoder = copy.deepcopy(decoder, {id(p): p for p in decoder.parameters()})
        self.room, self.length = room, 0
        self.on: frozenset[str] = frozenset()
        self.kept: dict[str, Tensor] = {}
        self.fresh, self.calls = True, 0
        for name, part in self.decoder.blocks.named_modules():
            if isinstance(part, nn.Linear | Norm):
                part.forward = self.rows("norm" if isinstance(part, Norm) else "linear", name, part.forward)
        for layer, block in enumerate(self.decoder.layers):
            mlp: Any = block.mlp
            if hasattr(mlp, "activation"):
                mlp.activation = self.rows("activation", f"{layer} activation", tabled(self, mlp.activation))
            for half, residual in (("attention", block.attention_residual), ("mlp", block.mlp_residual)):
                residual.write = self.rows("residual", f"{layer} {half} sum", residual.write)  # type: ignore[method-assign]
        self.decoder.norm.forward = self.rows("norm", "last norm", self.decoder.norm.forward)

    def rows(self, toggle: str, name: str, act: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """An op whose rows do not know each other, told to compute the last one alone when its toggle is set."""

        def forward(*given: Tensor) -> Tensor:
            if not all(isinstance(x, Tensor) and x.dim() == 3 and x.shape[1] == self.length for x in given):
                raise Refused(
                    f"the ladder needs ops that see a text row by row, and {name} does not; leave its rungs out"
                )
            if self.fresh or toggle not in self.on:
                return self.keep(name, act(*given), whole=True)
            return self.keep(name, act(*(x[:, -1:] for x in given)), whole=False)

        return forward

    def keep(self, name: str, found: Tensor, whole: bool) -> Tensor:
        """All rows of an op's output, (1, T, ...), of which all or the last were found now."""
        if self.fresh:
            self.kept[name] = found.new_empty(1, self.room, *found.shape[2:])
            self.kept[name][:, : self.length] = found
        if whole:
            return found
        self.kept[name][:, self.length - 1] = found[:, 0]
        return self.kept[name][:, : self.length]

    def attend(self, q, k, v, sight, bias, *more) -> Tensor:
        """The plain formula, for all queries or the last."""
        self.calls += 1
        name, last = f"attention {self.calls}", not self.fresh and "attention" in self.on
        if last:
            q, bias = q[:, :, -1:], None if bias is None else bias[:, :, -1:]
            sight = PassMask(sight.mask, sight.query_positions[:, -1:], sight.key_positions, causal=False)
        found = KERNELS["naive"](q, k, v, sight, bias, *more).transpose(1, 2)
        return self.keep(name, found, whole=not last).transpose(1, 2)

    def read(self, tokens: Tensor, on: frozenset[str], fresh: bool = False) -> Tensor:
        """Tokens (1, T) to the logits of the last one, (1, V). fresh: all rows, which are kept; else all but the last
        row were read before."""
        self.on, self.fresh, self.calls = on, fresh, 0
        self.length = tokens.shape[1]
        KERNELS[KERNEL] = self.attend  # type: ignore[assignment]
        with eval_mode(self.decoder), kernel(KERNEL):
            logits = self.decoder.forward(tokens, last="head" in on).logits
        if self.calls != len(self.decoder.layers):
            raise Refused("the ladder needs softmax attention in all layers; leave its rungs out")
        assert logits is not None
        return logits[:, -1]


def tabled(ladder: Ladder, act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An activation that is looked up when `table` is set."""
    halves = table(act)
    return lambda x: looked_up(x, halves) if "table" in ladder.on and not ladder.fresh else act(x)


def table(act: Callable[[Tensor], Tensor]) -> Tensor:
    """An activation of all 2^16 halves, by their bits; 128 KiB."""
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)  # wraps: the upper half are negative numbers
    return act(bits.view(torch.float16).float()).half()


def looked_up(x: Tensor, halves: Tensor) -> Tensor:
    """act(x) of any shape, to half precision: 0 from -10 down, x from 10 up."""
    bits = x.half().view(torch.int16).long() & 0xFFFF
    return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, halves[bits].to(x.dtype)))
