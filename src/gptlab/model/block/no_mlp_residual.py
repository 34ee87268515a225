"""No residual around the MLP: t = x + a(n1 x); y = m(n2 t) (alternative 2 of github.com/ravidcohen1/dle-assignment)."""

from gptlab.model.block import Block


class NoMlpResidual(Block):
    """Block whose MLP writes onto an empty stream."""

    def forward(self, stream, forward_pass, cache=None):
        attention_output = self.attention(self.attention_residual.read(stream), forward_pass, cache)
        inner = self.attention_residual.write(stream, attention_output)
        # the residual still owns norm and dropout of what it writes; onto zeros it leaves the output of the MLP alone
        return self.mlp_residual.write(
            self.mlp_residual.clear(inner), self.mlp(self.mlp_residual.read(inner), forward_pass)
        )
