"""Autoregressive generation with key-value caches.

A cache holds one context. What happens when a text is longer (`beyond`):

crop     its last half context is read again as a new prompt, so any decoder can go on for ever
slide    the cache forgets its oldest tokens one by one; for positions that know distance alone
refuse   nothing is written

Without caches the whole last context is read anew for each token, as nanoGPT does: the same tokens inside the context;
beyond it, a window that slides by one.

Prompts of several lengths are padded on the left. A row that reaches its context is read again with all the others,
each from its own beginning, so that every row is written as it would be alone.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from gptlab.errors import Refused
from gptlab.generation.sampler import Sampler
from gptlab.model.decoder import Decoder
from gptlab.model.eval_mode import eval_mode
from gptlab.model.forward_pass import Output
from gptlab.model.kv_cache import LayerCache, RingCache, TokenCache

Beyond = Literal["crop", "slide", "refuse"]
Step = Callable[..., Output]


def generate(
    decoder: Decoder,
    prompt: Tensor | Sequence[Tensor],
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition: float = 1.0,
    seed: int = 0,
    stop: Collection[int] = (),
    beyond: Beyond = "crop",
    cached: bool = True,
    step: Step | None = None,
) -> Iterator[Tensor]:
    """Continue prompts (B, T), or B of several lengths, by `length` tokens; yield the tokens (B,) of each step.

    temperature, top_k, top_p, repetition  as in Sampler
    seed     the same one gives the same tokens
    stop     tokens that end a row, which then repeats the one it drew; generation ends early when all rows have ended
    beyond   what happens past the context, as in the head of this file
    cached   whether key-value caches are used
    step     reads single tokens instead of the decoder: the same one, compiled
    """
    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p, repetition=repetition)
    # here and not in the generator below, so that a bad request is refused at the call
    state = DecodingState(decoder, prompt, length, beyond=beyond, cached=cached, step=step)
    generator = torch.Generator(state.texts.device).manual_seed(seed)
    return _generate_tokens(state, sampler, length, generator, stop=stop)


def _generate_tokens(
    state: "DecodingState", sampler: Sampler, length: int, generator: torch.Generator, stop: Collection[int]
):
    finished = torch.zeros(len(state.texts), dtype=torch.bool, device=state.texts.device)  # (B,)
    token = state.texts[:, -1]
    stop_tokens = torch.tensor(sorted(stop), dtype=torch.long, device=finished.device)
    for _ in range(length):
        logits = state.read()[:, -1]  # (B, V)
        if sampler.repetition != 1:
            logits = sampler.penalize_repetition(logits, state.find_present_tokens())
        # an ended row repeats itself, and the batch keeps its shape
        token = torch.where(finished, token, sampler.sample_token(logits, generator))
        state.append(token)
        yield token
        if stop:
            finished = finished | torch.isin(token, stop_tokens)
            if finished.all():
                return


class DecodingState:
    """Token rows, and a decoder's caches of them.

    lengths      tokens of each row since its beginning, the unread ones too
    unread       tokens at the end that the decoder has not read
    spare        how many tokens may be removed again
    keep_hidden  keep what the readout was given of all tokens read, `hidden`, (B, T, width)
    restarts     how often the rows were read from their beginning
    """

    def __init__(
        self,
        decoder: Decoder,
        prompt: Tensor | Sequence[Tensor],
        length: int,
        beyond: Beyond = "crop",
        cached: bool = True,
        step: Step | None = None,
        spare: int = 0,
        keep_hidden: bool = False,
    ) -> None:
        self.decoder, self.beyond, self.cached, self.spare = decoder, beyond, cached, spare
        self.step = decoder.forward if step is None else step
        self.context = decoder.shape.context
        self.lengths = [len(row) for row in prompt]
        refuse_bad_request(decoder, self.lengths, length, beyond=beyond, cached=cached)
        self.texts, longest = pad_left(prompt), max(self.lengths)
        self.padding = [longest - row_length for row_length in self.lengths]
        # attention looks at all slots of a cache, so one that is larger than needed costs time
        self.cache_length = min(self.context, longest + length)
        if beyond == "slide":
            self.lengths = [min(row_length, self.context) for row_length in self.lengths]
        self.cache: list[LayerCache | None] | None = None
        self.unread, self.restarts = 0, 0
        self.keep_hidden = keep_hidden
        self.hidden: Tensor | None = None

    def read(self, last: bool = True) -> Tensor:
        """Read what is unread; return its logits (B, T, V), or those of the last token alone (B, 1, V)."""
        fresh = self.cache is None
        if self.beyond != "slide" and max(self.lengths) > self.context:
            # with caches half the context is dropped at once: to read the rest anew at every token would undo the cache
            window = max(1, self.context // 2) if self.cached else self.context
            self.lengths = [window if length > self.context else length for length in self.lengths]
            self.cache_length, fresh = self.context, True
        if fresh and self.cached:
            self.cache = self.allocate_cache()
        # fresh caches know nothing, so the whole window is read again
        unread = max(self.lengths) if fresh else self.unread
        self.unread = 0
        tokens = self.texts[:, -unread:].clone(memory_format=torch.contiguous_format)  # own strides: one compiled graph
        self.restarts += fresh
        with eval_mode(self.decoder):
            if self.keep_hidden:
                x, _ = self.decoder.compute_hidden(tokens, self.compute_positions(unread), self.cache)
                self.hidden = x if fresh or self.hidden is None else torch.cat([self.hidden, x], 1)
                return self.decoder.readout(x[:, -1:] if last else x)[:, :, : self.decoder.shape.tokens]
            # Not decoder(...): a compiled one would compile anew for every shape of a prompt and a cache.
            forward = self.decoder.forward if fresh or unread > 1 else self.step
            logits = forward(tokens, positions=self.compute_positions(unread), cache=self.cache, last=last).logits
            assert logits is not None
            # vocab_multiple pads the vocabulary; the padding is never drawn
            return logits[:, :, : self.decoder.shape.tokens]

    def allocate_cache(self) -> list[LayerCache | None]:
        """Return empty caches for all that is to be written."""
        cache = self.decoder.new_cache(len(self.texts), self.cache_length)
        for layer_cache in cache if self.spare else ():
            if isinstance(layer_cache, RingCache | TokenCache):
                layer_cache.widen(self.spare)
        return cache

    def compute_positions(self, unread: int) -> Tensor | None:
        """Return the positions (B|1, T) of the last `unread` tokens, -1 for padding.

        None if they are 0..T-1 in every row.
        """
        # the common case, without padding: default positions leave causal kernels open
        same_length = len({*self.lengths}) == 1
        if same_length and unread == self.lengths[0]:
            return None
        if same_length:  # counted on the device: a number copied to a GPU waits for all that it has to do
            last = self.lengths[0]
            return torch.arange(last - unread, last, device=self.texts.device).unsqueeze(0).clamp(min=-1)
        ends = torch.tensor(self.lengths, device=self.texts.device)
        return (ends[:, None] + torch.arange(-unread, 0, device=ends.device)).clamp(min=-1)

    def append(self, token: Tensor) -> None:
        """Append one token (B,) to the rows, unread."""
        self.texts = torch.cat([self.texts, token[:, None]], 1)
        self.lengths = [length + 1 for length in self.lengths]
        self.unread += 1

    def remove_last(self, count: int) -> None:
        """Remove the last `count` tokens, whether they were read or not."""
        read_count = max(0, count - self.unread)
        for layer_cache in self.cache or ():
            if isinstance(layer_cache, RingCache | TokenCache):
                layer_cache.rewind(read_count)
        self.texts = self.texts[:, : self.texts.shape[1] - count]
        if self.hidden is not None:
            self.hidden = self.hidden[:, : self.hidden.shape[1] - read_count]
        self.lengths = [length - count for length in self.lengths]
        self.unread = max(0, self.unread - count)

    def find_present_tokens(self) -> Tensor:
        """Return bool (B, tokens): which tokens each row holds, its padding left out."""
        rows, width = self.texts.shape
        padding = torch.tensor(self.padding, device=self.texts.device)
        is_token = torch.arange(width, device=padding.device) >= padding[:, None]
        counts = torch.zeros(rows, self.decoder.shape.tokens, device=self.texts.device)
        # padding is added as 0, whatever token stands for it
        return counts.scatter_add(1, self.texts, is_token.to(counts.dtype)) > 0


def pad_left(prompt: Tensor | Sequence[Tensor]) -> Tensor:
    """Stack rows of several lengths to (B, T), padded on the left."""
    if isinstance(prompt, Tensor):
        return prompt
    return torch.nn.utils.rnn.pad_sequence([*prompt], batch_first=True, padding_side="left")


def refuse_bad_request(decoder: Decoder, lengths: list[int], length: int, beyond: Beyond, cached: bool) -> None:
    """Refuse empty prompts, and what the context or the positions cannot carry."""
    context = decoder.shape.context
    if not lengths or min(lengths) < 1:
        raise Refused("prompt: a row holds no token; give one token or more")
    # the last token is written and never read
    if beyond == "refuse" and max(lengths) + length - 1 > context:
        raise Refused(f"{max(lengths)} + {length} tokens go beyond model.context={context}; try beyond=crop")
    if beyond == "slide" and "embed" in decoder.position.provides:
        name = type(decoder.position).__name__
        raise Refused(f"beyond=slide: position ({name}) gives each place a vector of its own; try beyond=crop")
    if beyond == "slide" and not cached:
        raise Refused("beyond=slide lets a cache forget, and cached=false has none; try beyond=crop")
