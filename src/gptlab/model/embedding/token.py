"""The row of the token alone, as in every GPT: x_i = E[t_i]."""

from gptlab.model.embedding import Embedding


class TokenEmbedding(Embedding):
    """One row a token; no knobs."""
