"""Attention, then the MLP (GPT-2): t = x + a(n1 x); y = t + m(n2 t)."""

from gptlab.model.block import Block


class Sequential(Block):
    """Block whose MLP reads what attention wrote."""

    adds_branches = True

    def forward(self, stream, forward_pass, cache=None):
        attention_output = self.attention(self.attention_residual.read(stream), forward_pass, cache)
        stream = self.attention_residual.write(stream, attention_output)
        return self.mlp_residual.write(stream, self.mlp(self.mlp_residual.read(stream), forward_pass))
