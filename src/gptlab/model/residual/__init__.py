"""Residual connection of one branch (attention or MLP) to the residual stream. It owns the norms and the dropout."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gptlab.model.norm import Norm
from gptlab.model.shape import Shape


class Residual(nn.Module):
    """Contract of the slot. The stream may be any structure; expand and collapse turn embeddings into it and back.

    The first branch of the first layer expands for all, the last branch of the last layer collapses.

    streams        copies of the width that run side by side; all layers must agree on it
    carries        what a stream holds beside them, such as the embedding; all layers must agree on it too
    supports_loops whether a layer may be met more than once in a pass; not if the stream is read by depth
    embedding_std  standard deviation from which the embeddings should start; None leaves them as the init drew them
    adds_branches  whether a write is a sum of the stream and `dropout` of the branch, so that a factor of the branch,
                   which `dropout` applies, is one of all that the depth adds up
    """

    streams: int = 1
    carries: str = ""
    supports_loops: bool = True
    embedding_std: float | None = None
    adds_branches: bool = False

    def __init__(
        self, shape: Shape, layer: int, branch: str, norm: Callable[[int, int], Norm], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not in [0, 1); 0 drops nothing")
        # none at 0, so that a graph and a list of modules show what is at work
        self.dropout: nn.Module = nn.Dropout(dropout) if dropout else nn.Identity()
        # after the dropout, which is where every residual passes its branch through
        if shape.branch_factor != 1:
            self.dropout = nn.Sequential(self.dropout, Multiply(shape.branch_factor))

    def repeated_weights(self, frozen: bool = False) -> int:
        """Count the weights of its Linears, once for each time beyond the first that one token meets them.

        frozen  count only those that do not learn
        """
        return 0

    def expand(self, x: Tensor) -> Any:
        """Turn embeddings (B, T, width) into the stream."""
        return x

    def collapse(self, stream: Any) -> Tensor:
        """Turn the stream into (B, T, width)."""
        return stream

    def measure(self, stream: Any) -> Tensor:
        """Return the part of the stream that a branch writes into, as a tensor, without what it carries beside."""
        return stream

    def clear(self, stream: Any) -> Any:
        """Return a stream of the same structure into which nothing has been written."""
        return torch.zeros_like(stream)

    def read(self, stream: Any) -> Tensor:
        """Return the input of the branch, (B, T, width)."""
        raise NotImplementedError

    def write(self, stream: Any, y: Tensor) -> Any:
        """Return the stream after the branch gave y, (B, T, width)."""
        raise NotImplementedError


class Multiply(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return x of any shape, multiplied."""
        return x * self.factor

    def extra_repr(self) -> str:
        return f"{self.factor:.6g}"


def refuse_unlike_streams(residuals: Sequence[Residual], loops: int) -> None:
    """Raise ValueError where the residuals of a decoder do not hand on one kind of stream, or cannot be looped."""
    streams = {residual.streams for residual in residuals}
    if len(streams) > 1:
        raise ValueError(f"residual: layers of {sorted(streams)} streams do not fit; give all the same number")
    if loops > 1 and not all(residual.supports_loops for residual in residuals):
        name = type(residuals[0]).__name__
        raise ValueError(f"model.loops={loops}: residual ({name}) knows each layer by its depth; say model.loops=1")
    carried = {residual.carries for residual in residuals}
    if len(carried) > 1:
        kinds = ", ".join(sorted(name or "nothing else" for name in carried))
        raise ValueError(f"residual: layers whose streams carry {kinds} do not fit; give all the same residual")
