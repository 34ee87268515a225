"""Attention, then the MLP (GPT-2): t = x + a(n1 x); y = t + m(n2 t)."""

from gptlab.model.block import Block


class Sequential(Block):
    """The MLP sees what attention wrote."""

    def forward(self, stream, flow, memory=None):
        attended = self.attention(self.attention_wire.read(stream), flow, memory)
        stream = self.attention_wire.write(stream, attended)
        return self.mlp_wire.write(stream, self.mlp(self.mlp_wire.read(stream), flow))
