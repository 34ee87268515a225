"""Both halves read the same stream (GPT-J; PaLM, arXiv:2204.02311): y = x + a(n1 x) + m(n2 x), with two norms."""

from gptlab.model.block import Block


class Parallel(Block):
    """The MLP does not wait for attention."""

    def forward(self, stream, forward_pass, cache=None):
        attended = self.attention(self.attention_residual.read(stream), forward_pass, cache)
        worked = self.mlp(self.mlp_residual.read(stream), forward_pass)
        return self.mlp_residual.write(self.attention_residual.write(stream, attended), worked)
