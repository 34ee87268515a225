"""Both halves read the same stream (GPT-J; PaLM, arXiv:2204.02311): y = x + a(n1 x) + m(n2 x), with two norms."""

from gptlab.model.block import Block


class Parallel(Block):
    """The MLP does not wait for attention."""

    def forward(self, stream, flow, memory=None):
        attended = self.attention(self.attention_wire.read(stream), flow, memory)
        worked = self.mlp(self.mlp_wire.read(stream), flow)
        return self.mlp_wire.write(self.attention_wire.write(stream, attended), worked)
