"""Tokens after tokens, with caches.

A memory holds one context. When it is full, the last half of the context is read again as a new prompt (`beyond=crop`),
so any decoder can go on for ever. Without caches the whole last context is read anew for each token, as nanoGPT does:
the same tokens inside the context; beyond it, a window that slides by one.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from gptlab.decoder import Decoder
from gptlab.evaluate import resting


def generate(
    decoder: Decoder,
    prompt: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    beyond: Literal["crop", "refuse"] = "crop",
    cached: bool = True,
) -> Iterator[Tensor]:
    """Continues prompts (B, T) by `length` tokens; yields each step's (B,). temperature=0 takes the likeliest token.
    The same seed gives the same tokens."""
    context = decoder.shape.context
    if beyond == "refuse" and prompt.shape[1] + length - 1 > context:
        raise ValueError(f"{prompt.shape[1]} + {length} tokens go beyond model.context={context}; try beyond=crop")
    random = torch.Generator(prompt.device).manual_seed(seed)
    seen = prompt
    memory, held = None, 0
    for _ in range(length):
        with resting(decoder):
            if not cached:
                unread, held = seen[:, -context:], 0
            elif memory is None or held + 1 > context:
                unread = seen if seen.shape[1] <= context and memory is None else seen[:, -max(1, context // 2) :]
                memory, held = decoder.memory(prompt.shape[0], context), 0
            else:
                unread = seen[:, -1:]
            at = torch.arange(held, held + unread.shape[1], device=prompt.device)[None]
            # Not decoder(...): a compiled one would compile anew for every shape of a prompt and a memory.
            logits = decoder.forward(unread, at=None if held == 0 else at, memory=memory).logits
            assert logits is not None
            held += unread.shape[1]
            token = pick(logits[:, -1, : decoder.shape.tokens], temperature, top_k, top_p, random)
        seen = torch.cat([seen[:, -context:], token[:, None]], 1)
        yield token


def pick(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, random: torch.Generator) -> Tensor:
    """(B, V) to (B,): draws from the k likeliest tokens, or the smallest set whose probability reaches p."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / temperature
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None:
        ordered, order = logits.sort(-1, descending=True)
        chances = ordered.softmax(-1)
        outside = chances.cumsum(-1) - chances >= top_p
        logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=random)[:, 0]
