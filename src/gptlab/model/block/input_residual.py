"""The second residual starts from the block's input: t = x + a(n1 x); y = x + m(n2 t).

Attention reaches the output only through the MLP (alternative 1 of github.com/ravidcohen1/dle-assignment).
"""

from gptlab.model.block import Block


class InputResidual(Block):
    """Block whose MLP writes onto the block's input instead of onto attention's sum."""

    adds_branches = True

    def forward(self, stream, forward_pass, cache=None):
        attention_output = self.attention(self.attention_residual.read(stream), forward_pass, cache)
        inner = self.attention_residual.write(stream, attention_output)
        return self.mlp_residual.write(stream, self.mlp(self.mlp_residual.read(inner), forward_pass))
