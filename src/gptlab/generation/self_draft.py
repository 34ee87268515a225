"""The layers of readout=mtp as the draft of speculative decoding (DeepSeek-V3, arXiv:2412.19437, section 5.4.3).

With t_0 .. t_n written and h_0 .. h_(n-1) read by the decoder, depth k = 1, 2, ... reads at place i = n - 1

    h^k_i = block(M [N h^(k-1)_i ; N Emb(t_(i+k))])        and guesses t_(n+k) from head(N h^k_i)

as in training (model/multi_token.py). Each depth has a cache of the places before. At its last k - 1 places it has read
guesses, and forgets them at once: the next pass may have rejected some, and reads those places again.
"""

import torch
from torch import Tensor

from gptlab.generation.generate import DecodingState
from gptlab.generation.sampler import Sampler
from gptlab.model.eval_mode import eval_mode
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.kv_cache import LayerCache, RingCache
from gptlab.model.multi_token import AheadLayer


class Depth:
    """One layer that predicts ahead, and what it has read.

    hidden  its outputs for all places so far, (1, places, width)
    read    how many of these its cache holds: those of tokens that are written for good
    """

    def __init__(self, layer: AheadLayer) -> None:
        self.layer = layer
        self.cache: LayerCache | None = None
        self.hidden: Tensor | None = None
        self.read = 0

    def restart(self, length: int, spare: int, like: Tensor) -> None:
        """Forget all, and make room for `length` places."""
        self.cache, self.hidden, self.read = self.layer.block.attention.new_cache(1, length, like), None, 0
        if isinstance(self.cache, RingCache):
            self.cache.widen(spare)

    def forget_after(self, places: int) -> None:
        """Forget what was read after the first `places`."""
        if isinstance(self.cache, RingCache) and self.read > places:
            self.cache.rewind(self.read - places)
        self.read = min(self.read, places)


class SelfDraft:
    """Guesses by the decoder's own layers, from what it has read last; the text is its state's."""

    def __init__(self, state: DecodingState) -> None:
        self.state, self.restarts = state, 0
        self.depths = [Depth(layer) for layer in state.decoder.ahead_layers]

    def guess(self, count: int, sampler: Sampler, generator: torch.Generator) -> tuple[list[Tensor], Tensor]:
        """Draw up to `count` tokens (1,), none before the decoder has read; return them and their probabilities."""
        state, tokens = self.state, []
        probabilities = [torch.empty(0, state.decoder.shape.tokens, device=state.texts.device)]
        if state.hidden is None or not count:
            return tokens, probabilities[0]
        if self.restarts != state.restarts:
            for depth in self.depths:
                depth.restart(state.cache_length, len(self.depths), state.decoder.embedding.weight)
            self.restarts = state.restarts
        hidden, text = state.hidden, state.texts[:, -state.lengths[0] :]
        for number, depth in enumerate(self.depths[:count], start=1):
            hidden, logits = self.read_depth(number, depth, hidden, text)
            probabilities.append(sampler.probabilities(logits))
            tokens.append(torch.multinomial(probabilities[-1], 1, generator=generator)[:, 0])
            text = torch.cat([text, tokens[-1][:, None]], 1)
        return tokens, torch.cat(probabilities)

    def read_depth(self, number: int, depth: Depth, hidden: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Let depth `number` read the places that it has not; return its outputs (1, places, width), logits (1, V).

        hidden  outputs of the depth before, (1, places, width)
        text    tokens, those guessed among them, (1, places + number)
        """
        decoder, start, places = self.state.decoder, depth.read, hidden.shape[1]
        # from one token earlier, which an embedding may look back to
        positions = torch.arange(start + number - 1, places + number, device=text.device)[None]
        with eval_mode(decoder):
            embeddings = decoder.embed_tokens(text[:, start + number - 1 :], positions)[:, 1:]
            inner = ForwardPass(text[:, start + number :], positions[:, 1:] - number, decoder.position)
            x = depth.layer(hidden[:, start:], embeddings, inner, depth.cache)
            all_hidden = depth.hidden = x if depth.hidden is None else torch.cat([depth.hidden[:, :start], x], 1)
            logits = decoder.readout(depth.layer.norm(x[:, -1]))[:, : decoder.shape.tokens]
        depth.read = places
        # place i reads token i + number, and the last that is written for good is token `places`
        depth.forget_after(max(0, places - number + 1))
        return all_hidden, logits

    def settle(self, rejected: int, token: Tensor) -> None:
        """Nothing is to be taken back: guesses were forgotten, and the text is the state's."""
