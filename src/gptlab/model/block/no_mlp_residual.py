"""No residual around the MLP: t = x + a(n1 x); y = m(n2 t) (alternative 2 of github.com/ravidcohen1/dle-assignment)."""

import torch

from gptlab.model.block import Block


class NoMlpResidual(Block):
    """The MLP writes onto an empty stream."""

    def forward(self, stream, flow, memory=None):
        attended = self.attention(self.attention_wire.read(stream), flow, memory)
        inner = self.attention_wire.write(stream, attended)
        return self.mlp_wire.write(torch.zeros_like(inner), self.mlp(self.mlp_wire.read(inner), flow))
