"""Sampling of the next token from logits: temperature, then the k likeliest, then the smallest set that reaches p.

temperature  logits / temperature; 0 takes the likeliest
top_k        Fan 2018, arXiv:1805.04833
top_p        Holtzman 2019, arXiv:1904.09751
repetition   logits of tokens that the text holds already, divided by it where positive, else times it (CTRL, Keskar
             2019, arXiv:1909.05858)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gptlab.errors import Refused


@dataclass(frozen=True)
class Sampler:
    """Settings of sampling.

    temperature  1 changes nothing; 0 takes the likeliest token
    top_k        tokens to draw from; None is all
    top_p        probability that these reach; None is 1
    repetition   penalty of tokens that the text holds; 1 is none
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise Refused(f"temperature={self.temperature} is not in [0, inf); 0 takes the likeliest token")
        if self.top_k is not None and self.top_k < 1:
            raise Refused(f"top_k={self.top_k} leaves no token to draw; give 1 or more, or none")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise Refused(f"top_p={self.top_p} is not in (0, 1]; 1 draws from all tokens; try 0.9")
        if not 1e-6 <= self.repetition <= 1e9:
            raise Refused(f"repetition={self.repetition} is not in [1e-6, 1e9]; 1 changes nothing, 1.2 is usual")

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities (..., V) that tokens are drawn with, for logits (..., V)."""
        if self.temperature == 0:
            # all on the likeliest: speculative decoding needs p itself, at temperature 0 too
            return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
        below_max = logits.float() - logits.float().amax(-1, keepdim=True)
        logits = (below_max / self.temperature).masked_fill(below_max == 0, 0)  # in float32 a tiny temperature may be 0
        if self.top_k is not None:
            threshold = logits.topk(min(self.top_k, logits.shape[-1])).values[..., -1:]
            # tokens that tie with the k-th stay
            logits = logits.masked_fill(logits < threshold, -torch.inf)
        if self.top_p is not None:
            sorted_logits, order = logits.sort(-1, descending=True)
            sorted_probabilities = sorted_logits.softmax(-1)
            # what stands before a token, without itself: so the likeliest is always inside
            outside = sorted_probabilities.cumsum(-1) - sorted_probabilities >= self.top_p
            outside[..., 0] = False  # where top_p is so small that it is 0 in float32
            logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
        return logits.softmax(-1)

    def sample_token(self, logits: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one token for each row: logits (B, V) to (B,)."""
        if self.temperature == 0:
            return logits.argmax(-1)
        return torch.multinomial(self.probabilities(logits), 1, generator=generator)[:, 0]

    def penalize_repetition(self, logits: Tensor, present: Tensor) -> Tensor:
        """Return logits (B, V), lowered where `present`, bool (B, V), is true."""
        lowered = torch.where(logits > 0, logits / self.repetition, logits * self.repetition)
        return torch.where(present, lowered, logits)
