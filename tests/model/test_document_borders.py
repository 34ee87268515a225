"""Documents that share a row (model/documents.py): each has the logits that it has alone."""

from collections.abc import Sequence

import pytest
import torch
from conftest import BATCH, EVERY, TIME, decoder, tokens
from torch import Tensor

from gptlab.model.attention_kernels import force_kernel
from gptlab.model.decoder import Decoder
from gptlab.model.documents import count_positions
from gptlab.model.forward_pass import ForwardPass
from gptlab.model.shape import IGNORED

LENGTHS = ((5, 1, 9, 2), (1, 7, 3, 6))
"""Documents of each row, TIME tokens in all; one token is a document too, and a border may stand anywhere."""
IN_CHUNKS = [
    f"attention={name} attention.chunk=4"
    for name in ("linear", "retention", "gla", "mamba2", "gated_deltanet", "kda", "rwkv7")
]
"""Recurrences whose documents begin within a chunk, at its start, and after several."""
UNABLE = ("attention=moba",)


def number(lengths: Sequence[Sequence[int]] = LENGTHS) -> Tensor:
    """Numbers of the documents of these lengths, (B, T), from 3 on."""
    return torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in lengths]) + 3


def read_alone(made: Decoder, now: Tensor) -> Tensor:
    """The logits of each document in a pass of its own, side by side in their places."""
    with torch.no_grad():
        rows = []
        for row, lengths in zip(now, LENGTHS, strict=True):
            parts = [made(part[None]).logits for part in row.split(list(lengths))]
            rows.append(torch.cat(parts, 1))
        return torch.cat(rows)


@pytest.mark.few(40)
@pytest.mark.parametrize("case", [*EVERY, *IN_CHUNKS])
def test_a_document_in_a_row_has_the_logits_that_it_has_alone(case: str):
    if case.startswith(UNABLE):
        pytest.skip("refuses documents, which another test holds")
    made, now = decoder(case), tokens(BATCH, TIME)
    with torch.no_grad():
        packed, plain = made(now, documents=number()).logits, made(now).logits
    torch.testing.assert_close(packed, read_alone(made, now), rtol=1e-8, atol=1e-9)
    # the second documents do see the first where nobody asks for borders
    assert not torch.allclose(packed[:, 8:], plain[:, 8:])


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("kernel", ["naive", "sdpa", "flex"])
def test_every_kernel_keeps_documents_apart(kernel: str):
    made, now = decoder("attention=swa attention.window=4"), tokens(BATCH, TIME)
    with force_kernel(kernel), torch.no_grad():
        packed = made(now, documents=number()).logits
    torch.testing.assert_close(packed, read_alone(made, now), rtol=0, atol=1e-9)


def test_one_document_a_row_is_a_row_without_borders():
    made, now = decoder("attention=mha"), tokens(BATCH, TIME)
    with torch.no_grad():
        torch.testing.assert_close(made(now, documents=number([[TIME]] * BATCH)).logits, made(now).logits)


def test_positions_begin_anew_with_each_document():
    assert count_positions(number([[3, 1, 2], [1, 5]])).tolist() == [[0, 1, 2, 0, 0, 1], [0, 0, 1, 2, 3, 4]]


@pytest.mark.parametrize("case", ["attention=mha", "attention=gated_deltanet", "attention=rwkv7"])
def test_gradients_of_a_document_come_from_itself_alone(case: str):
    made, now = decoder(case), tokens(BATCH, TIME)
    embedded: list[Tensor] = []
    made.embedding.register_forward_hook(lambda _, __, out: (out.retain_grad(), embedded.append(out))[0])
    # the loss of each row's second document
    targets = torch.full((BATCH, TIME), IGNORED)
    is_second = number() == 4
    targets[is_second] = tokens(BATCH, TIME, key="targets")[is_second]
    made(now, targets, documents=number()).loss.backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient[~is_second].abs().max() < 1e-12 < gradient[is_second].abs().max()


def test_tokens_further_ahead_are_asked_for_within_a_document_alone():
    made, now = decoder("readout=mtp readout.mtp=2").train(), tokens(BATCH, TIME)
    targets = tokens(BATCH, TIME, key="targets")
    alone, count = torch.zeros(2, dtype=torch.float64), torch.zeros(2)
    for row, of_row, lengths in zip(now, targets, LENGTHS, strict=True):
        for part, part_targets in zip(row.split(list(lengths)), of_row.split(list(lengths)), strict=True):
            x = made.norm(made.layers[-1].mlp_residual.collapse(run_blocks(made, part[None])))
            for depth, layer in enumerate(made.ahead_layers[: len(part) - 1], start=1):
                forward_pass = make_pass(made, part[None, depth:])
                x = layer(x[:, : len(part) - depth], made.embed_tokens(part[None, depth:]), forward_pass)
                kept = part_targets[None, depth:]
                alone[depth - 1] += made.readout.loss(layer.norm(x), kept, forward_pass) * kept.numel()
                count[depth - 1] += kept.numel()
    packed = made(now, targets, documents=number()).losses["mtp"]
    torch.testing.assert_close(packed, made.readout.mtp_weight * (alone / count).mean())


def make_pass(made: Decoder, now: Tensor) -> ForwardPass:
    """A pass over a row without borders."""
    return ForwardPass(now, torch.arange(now.shape[1])[None], made.position, True)


def run_blocks(made: Decoder, now: Tensor) -> Tensor:
    """The stream of a row behind the last block."""
    forward_pass = make_pass(made, now)
    stream = made.layers[0].attention_residual.expand(
        made.position.embed(made.embed_tokens(now), forward_pass.positions)
    )
    for block in made.layers:
        stream = block(stream, forward_pass, None)
    return stream


def test_documents_that_cannot_be_kept_apart_are_refused():
    made, now = decoder("attention=moba"), tokens(BATCH, TIME)
    with pytest.raises(ValueError, match=r"data.mask_documents=true: attention \(BlockMixture\) cannot keep the doc"):
        made(now, documents=number())
    made = decoder("attention=mha")
    with pytest.raises(ValueError, match="positions of their own, and no cache"):
        made(now, documents=number(), cache=made.new_cache(BATCH, TIME))


@pytest.mark.parametrize(
    "case", ["attention=gqa attention.short_conv=4", pytest.param("attention=kda", marks=pytest.mark.slow)]
)
def test_documents_leave_one_graph(case: str):
    made, now = decoder(case), tokens(BATCH, TIME)
    whole = torch.compile(made, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(whole(now, documents=number()).logits, made(now, documents=number()).logits)
