"""CUDA graphs: what the GPU does in a call, recorded once and then repeated without Python. Never yet run on a GPU.

A graph repeats the same kernels on the same memory. So a body that is recorded reads its inputs from buffers that stay,
which are filled before each call, and no number of Python may change from call to call: it would be the first one for
ever. What waits for the GPU within the body cannot be recorded, and torch refuses it.

The training step is in training/cuda_graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.model.forward_pass import Output
from gptlab.model.kv_cache import LayerCache

WARM_UP_CALLS = 3
"""Calls that run as they are before one is recorded: libraries choose kernels and take memory in the first ones."""

Outputs = TypeVar("Outputs")
Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Records a body without running it; returns what runs it, and the outputs that each run overwrites."""


def capture_on_gpu(body: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
    """Record what `body` asks of the GPU; raise Refused for what cannot be recorded."""
    graph = torch.cuda.CUDAGraph()
    try:
        # a thread that pins the next batch meanwhile is no part of it
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = body()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise Refused(f"trainer.cuda_graph=true: CUDA records no graph here ({reason}); say false") from error
    return graph.replay, outputs


class StaticGraph(Generic[Outputs]):
    """A body that runs as it is at first, and is a graph from then on. Every call counts: there are no trial runs.

    body     reads buffers that stay, and returns tensors, which the next call overwrites
    capture  records it
    """

    def __init__(self, body: Callable[[], Outputs], capture: Capture = capture_on_gpu) -> None:
        self.body, self.capture, self.calls = body, capture, 0
        self.replay: Callable[[], None] | None = None
        self.outputs: Outputs | None = None

    def __call__(self) -> Outputs:
        """Run the body once more, and return what it returns."""
        self.calls += 1
        # what allocates or compiles at first use must not be recorded
        if self.calls <= WARM_UP_CALLS:
            return self._run_beside()
        if self.replay is None:
            self.replay, self.outputs = self.capture(self.body)
        self.replay()
        assert self.outputs is not None
        return self.outputs

    def _run_beside(self) -> Outputs:
        """Run the body on a stream of its own, as torch asks of the calls before a graph is recorded."""
        if not torch.cuda.is_available():
            return self.body()
        stream = torch.cuda.Stream()
        # both waits: the body sees what was written before, and what follows sees the body's work
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self.body()
        torch.cuda.current_stream().wait_stream(stream)
        return outputs


class GraphedTokenStep:
    """Decoder.forward for one token a row, as a graph for the caches that it continues: the `step` of generate().

    Other caches, as after a text has been cropped, are other memory, and have a graph of their own.
    """

    def __init__(self, decoder: Decoder, capture: Capture = capture_on_gpu) -> None:
        self.decoder, self.capture = decoder, capture
        self.cache: Sequence[LayerCache | None] | None = None

    def __call__(
        self, tokens: Tensor, *, positions: Tensor, cache: Sequence[LayerCache | None], last: bool = True
    ) -> Output:
        """Return the Output for tokens (B, 1) at positions (B|1, 1)."""
        if cache is not self.cache:
            # the graph reads these two buffers for ever; later calls copy into them
            self.cache, self.tokens, self.positions = cache, tokens.clone(), positions.clone()
            self.graph = StaticGraph(lambda: self._read(last), self.capture)
        self.tokens.copy_(tokens)
        self.positions.copy_(positions)
        return self.graph()

    def _read(self, last: bool) -> Output:
        return self.decoder.forward(self.tokens, positions=self.positions, cache=self.cache, last=last)
