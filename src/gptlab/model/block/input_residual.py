"""The second residual starts from the block's input: t = x + a(n1 x); y = x + m(n2 t).

Attention reaches the output only through the MLP (alternative 1 of github.com/ravidcohen1/dle-assignment).
"""

from gptlab.model.block import Block


class InputResidual(Block):
    """The MLP writes beside attention's sum, not onto it."""

    def forward(self, stream, flow, memory=None):
        attended = self.attention(self.attention_wire.read(stream), flow, memory)
        inner = self.attention_wire.write(stream, attended)
        return self.mlp_wire.write(stream, self.mlp(self.mlp_wire.read(inner), flow))
