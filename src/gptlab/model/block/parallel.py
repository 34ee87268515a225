"""Both halves read the same stream (GPT-NeoX, arXiv:2204.06745): y = x + a(n1 x) + m(n2 x), with two norms.

GPT-J and PaLM (arXiv:2204.02311) have one norm for both halves; here each has its own, as in GPT-NeoX.
"""

from gptlab.model.block import Block


class Parallel(Block):
    """Block whose MLP reads the same stream as attention."""

    adds_branches = True

    def forward(self, stream, forward_pass, cache=None):
        attention_output = self.attention(self.attention_residual.read(stream), forward_pass, cache)
        mlp_output = self.mlp(self.mlp_residual.read(stream), forward_pass)
        return self.mlp_residual.write(self.attention_residual.write(stream, attention_output), mlp_output)
