"""The decoder: tokens to logits. The first file to read, since it alone knows the order of the parts.

    x = embed(tokens) + positions
    x = block(x), for each layer: attention and MLP, each read from and written to the residual stream;
                  `loops` times, if the depth is looped
    logits = readout(norm(x))

Every part is a choice: a factory that is called here with the sizes. A factory is any callable, such as a class or a
functools.partial with knobs: Decoder(shape, attention=partial(SoftmaxAttention, kv_heads=2), ...).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from gptlab.model.attention import Attention
from gptlab.model.block import Block
from gptlab.model.documents import count_positions
from gptlab.model.embedding import Embedding
from gptlab.model.forward_pass import ForwardPass, Output
from gptlab.model.kv_cache import LayerCache, TokenCache
from gptlab.model.mlp import Mlp
from gptlab.model.multi_token import AheadLayer, predict_ahead
from gptlab.model.norm import Norm
from gptlab.model.position import Position
from gptlab.model.readout import Readout
from gptlab.model.residual import Residual, refuse_unlike_streams
from gptlab.model.shape import Shape

if TYPE_CHECKING:
    from gptlab.model.parametrization import Scaling

Caches = Sequence[LayerCache | None]
"""Caches of all applied layers, and behind them that of an embedding which reads tokens before each."""


class Decoder(nn.Module):
    """A decoder-only transformer.

    loops            times that a token meets every layer, by the same weights (Universal Transformer, arXiv:1807.03819;
                     ALBERT, arXiv:1909.11942, loops one layer; Saunshi 2025, arXiv:2502.17416)
    loop_order       cycle goes through all layers and begins anew; repeat stays at each (MobileLLM, arXiv:2402.14905)
    dropout          of the sum of embeddings; other dropouts belong to the parts
    final_norm       whether a norm stands between the last block and the readout
    embedding_norm   whether one stands behind the embedding of the tokens (BLOOM, arXiv:2211.05100; nanochat)
    embedding_scale  factor of that embedding; sqrt_width is sqrt(width) (Vaswani 2017; Gemma, arXiv:2403.08295)
    """

    def __init__(
        self,
        shape: Shape,
        *,
        attention: Callable[..., Attention],
        position: Callable[..., Position],
        norm: Callable[..., Norm],
        mlp: Callable[..., Mlp],
        residual: Callable[..., Residual],
        block: Callable[..., Block],
        readout: Callable[..., Readout],
        embedding: Callable[..., Embedding] = Embedding,
        loops: int = 1,
        loop_order: Literal["cycle", "repeat"] = "cycle",
        dropout: float = 0.0,
        final_norm: bool = True,
        embedding_norm: bool = False,
        embedding_scale: float | Literal["sqrt_width"] = 1.0,
    ) -> None:
        super().__init__()
        if loops < 1:
            raise ValueError(f"model.loops={loops} is not positive; 1 meets each layer once")
        self.shape, self.loops, self.loop_order = shape, loops, loop_order
        self.embedding = nn.Embedding(shape.vocab, shape.width)  # the table
        self.embedder = embedding(shape)  # what is made of its rows
        self.embedding_norm = norm(shape.width, 0) if embedding_norm else nn.Identity()
        self.embedding_scale = shape.width**0.5 if embedding_scale == "sqrt_width" else float(embedding_scale)
        self.position = position(shape)
        # Identity at 0: no operation in the graph, and nothing to draw
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        parts = {"attention": attention, "mlp": mlp, "residual": residual, "norm": norm}
        self.blocks = nn.ModuleList(block(shape, layer, **parts) for layer in range(shape.layers))
        # where norms differ by layer it is of the last one's kind
        self.norm = norm(shape.width, shape.layers - 1) if final_norm else nn.Identity()
        # it is given the embedding so that it may tie its head to it
        self.readout = readout(shape, self.embedding)
        # in training alone, for each token beyond the next one that the readout asks for
        self.ahead = nn.ModuleList(AheadLayer(shape, block=block, **parts) for _ in range(self.readout.mtp))
        # set by whoever builds it: how first values and steps follow the sizes; None is as the init and optimizer say
        self.scaling: Scaling | None = None
        self._check_compatibility()

    @property
    def ahead_layers(self) -> list[AheadLayer]:
        """The layers that predict tokens beyond the next one, in training."""
        return cast(list[AheadLayer], list(self.ahead))

    @property
    def layers(self) -> list[Block]:
        """The blocks, first to last."""
        return cast(list[Block], list(self.blocks))

    @property
    def residuals(self) -> list[Residual]:
        """Both residuals of every block, first to last."""
        return [residual for block in self.layers for residual in (block.attention_residual, block.mlp_residual)]

    @property
    def applied_layers(self) -> list[Block]:
        """The blocks in the order in which a token meets them, each `loops` times."""
        if self.loop_order == "cycle":
            return self.layers * self.loops
        return [block for block in self.layers for _ in range(self.loops)]

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Caches | None = None,
        last: bool = False,
        documents: Tensor | None = None,
    ) -> Output:
        """Return the Output for tokens (B, T): logits without targets (B, T), the loss with them.

        positions  (B|1, T), -1 for padding; None is 0..T-1
        cache      of each applied layer, from earlier calls, which these tokens continue
        last       return the logits of the last token alone, (B, 1, vocab)
        documents  number of each token's document, (B, T), ascending: each is read as if it were alone
        """
        x, forward_pass = self.compute_hidden(tokens, positions, cache, documents)
        if targets is None:
            # while writing only the last token's logits are needed, and the vocabulary is the widest product
            return Output(self.readout(x[:, -1:] if last else x), None, forward_pass.losses, forward_pass.facts)
        # the readout owns the loss: its softcap or a fused kernel change how it is computed
        loss = self.readout.loss(x, targets, forward_pass)
        # an evaluation computes no gradients, and has no use for them
        if self.ahead and torch.is_grad_enabled():
            predict_ahead(x, targets, forward_pass, layers=self.ahead_layers, readout=self.readout)
        return Output(None, loss, forward_pass.losses, forward_pass.facts)

    def compute_hidden(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        cache: Caches | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, ForwardPass]:
        """Return the readout's input, (B, T, width), and the forward pass; the arguments are those of `forward`."""
        if documents is not None:
            self.refuse_documents(positions, cache)
            positions = count_positions(documents)
        # remembered: given positions may be padded, and only plain ones leave the causal kernels open
        default_positions = positions is None
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None] if positions is None else positions
        forward_pass = ForwardPass(
            tokens, positions, self.position, default_positions=default_positions, documents=documents
        )
        layer_caches, token_cache = self._split_cache(cache)
        forward_pass.embeddings = self.embed_tokens(tokens, positions, token_cache)
        x = self.dropout(self.position.embed(forward_pass.embeddings, positions))
        # all layers agree on the stream (_check_compatibility), so the first residual expands it for all, and the last
        # collapses it
        stream = self.layers[0].attention_residual.expand(x)
        for block, layer_cache in zip(self.applied_layers, layer_caches, strict=True):
            stream = block(stream, forward_pass, layer_cache)
        x = self.norm(self.layers[-1].mlp_residual.collapse(stream))
        if self.shape.readout_factor != 1:
            x = x * self.shape.readout_factor
        return x, forward_pass

    def refuse_documents(self, positions: Tensor | None = None, cache: Caches | None = None) -> None:
        """Raise ValueError where documents of one row cannot be kept apart."""
        if positions is not None or cache is not None:
            raise ValueError("documents have positions of their own, and no cache; give neither beside them")
        for block in (*self.layers, *(layer.block for layer in self.ahead_layers)):
            if not block.attention.supports_documents:
                raise ValueError(
                    f"data.mask_documents=true: attention ({type(block.attention).__name__}) cannot keep the documents "
                    "of a row apart; say data.mask_documents=false, or take another attention"
                )

    def embed_tokens(self, tokens: Tensor, positions: Tensor | None = None, cache: TokenCache | None = None) -> Tensor:
        """Return the embeddings (B, T, width) of tokens (B, T), without positions.

        positions  (B|1, T), as in `forward`: what stands before a token is read from position 1 on
        cache      of the tokens before, which these continue
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None] if positions is None else positions
        x = self.embedder(self.embedding, tokens, positions, cache)
        return self.embedding_norm(x if self.embedding_scale == 1 else self.embedding_scale * x)

    @torch.no_grad()
    def adjust_initial_weights(self) -> None:
        """Scale all embeddings by one factor, if the residual wants a standard deviation of those of the tokens."""
        std = self.layers[0].attention_residual.embedding_std
        if std is not None:
            factor = std / self.embedding.weight.std()
            for module in (self.embedding, *self.position.modules()):
                # learned positions too: what they add to the tokens keeps its share
                if isinstance(module, nn.Embedding):
                    module.weight.mul_(factor)

    def new_cache(self, batch: int, length: int) -> list[LayerCache | None]:
        """Return empty caches, in the order of `Caches`, for `batch` sequences of up to `length` tokens."""
        like = self.embedding.weight
        # the same weights see other keys in each loop
        caches = [block.attention.new_cache(batch, length, like) for block in self.applied_layers]
        token_cache = self.embedder.new_cache(batch, like)
        return caches if token_cache is None else [*caches, token_cache]

    def _split_cache(self, cache: Caches | None) -> tuple[Caches, TokenCache | None]:
        """Return the caches of the applied layers and that of the embedding."""
        if not cache:
            return [None] * len(self.applied_layers), None
        if self.embedder.looks_back:
            return cache[:-1], cast(TokenCache, cache[-1])
        return cache, None

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the parameters that are trained, by name.

        A masked or otherwise parametrised weight has the name that it has without.
        """
        parameters = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        return [(name.replace(".parametrizations.weight.original", ".weight"), p) for name, p in parameters]

    def _check_compatibility(self) -> None:
        """Raise ValueError where parts that depend on each other do not fit."""
        attentions = [block.attention for block in self.layers]
        for layer, attention in enumerate(attentions):
            # earlier layers only: what is shared in a pass flows down the depth
            attention.check_compatible(self.position, attentions[:layer])
        for layer in self.ahead_layers:
            layer.block.attention.check_compatible(self.position, [])
        refuse_unlike_streams(self.residuals, self.loops)


def pattern(
    shape: Any,
    layer: int,
    *args: Any,
    layout: list[str],
    kinds: dict[str, Callable],
    last: str | None = None,
    **kwargs: Any,
) -> Any:
    """Build any slot by layer: layer l is kinds[layout[l mod len(layout)]].

    layout  names of kinds, tiled over the layers
    kinds   factories by name
    last    kind of the last layer, so that a decoder with fewer layers than the layout has it too; None is as tiled
    """
    if not layout or not set(layout) <= set(kinds):
        raise ValueError(f"layout={list(layout)} may hold only the names in kinds: {', '.join(kinds)}")
    if last is not None and last not in kinds:
        raise ValueError(f"last={last} may be only one of the names in kinds: {', '.join(kinds)}; null is as tiled")
    # a norm is called with (width, layer), all other slots with (shape, layer)
    if last is not None and not isinstance(shape, Shape):
        raise ValueError(f"last={last}: a norm is not told how many layers there are; say last=null")
    if last is not None and layer == shape.layers - 1:
        return kinds[last](shape, layer, *args, **kwargs)
    return kinds[layout[layer % len(layout)]](shape, layer, *args, **kwargs)
