"""Laws of quantised and packed decoders: what is rounded, when, in which order; that no format looks ahead; what packed
weights take, and that they say what rounded ones say."""

import copy
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BATCH, TIME, VOCAB, choices, composed, normal, tokens
from test_change import FEW, changed, linears, newborn, plain, tampered, zeros
from test_decoder_laws import logits
from test_number_formats import made
from tiny_runs import finished, numbers, program, summary, tiny, train
from torch import Tensor, nn
from torch.nn import functional as F

import gptlab
from gptlab import compose as wiring
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.weights.change import merge, summary_metrics
from gptlab.weights.change.lora import Lora
from gptlab.weights.change.pack import Pack, PackedLinear
from gptlab.weights.change.prune import Prune
from gptlab.weights.change.quantize import ON, WATCHING, Quantize, Quantizer

QUANTIZE = "change=[quantize]"
TENSOR = ["format@change.quantize.activation=integer", "change.quantize.activation.fraction_width=tensor"]


def rounded(choice: str | None = "mxint8", reading: str | None = None, **more: Any) -> Quantize:
    """Formats by their name in conf/."""
    return Quantize(
        weight=partial(made, choice) if choice else None, activation=partial(made, reading) if reading else None, **more
    )


# -- what is rounded


@pytest.mark.parametrize("choice", choices("format"))
def test_no_format_looks_ahead_in_weights_or_activations(choice: str):
    weight = None if choice == "binary" else choice
    made, now = rounded(weight, choice)(plain().float()), tokens(BATCH, TIME, below=VOCAB - 1)
    with torch.no_grad():
        made.embedding.weight[VOCAB - 1] *= 64  # a token out of all proportion
    later = now.clone()
    later[:, 9:] = VOCAB - 1
    assert torch.equal(logits(made, now)[:, :9], logits(made, later)[:, :9])
    loss = made(now, later).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_a_rounded_linear_is_its_formula():
    found, usual = (linears(one)["blocks.1.mlp.up"] for one in (rounded("mxfp4", "mxint8")(plain()), plain()))
    x = normal(2, 3, 60)
    wanted = F.linear(made("mxint8")(x), made("mxfp4")(usual.weight), usual.bias)
    assert torch.equal(found(x), wanted)
    alone = linears(rounded(None, "mxint8")(plain()))["blocks.1.mlp.up"]
    assert torch.equal(alone(x), F.linear(made("mxint8")(x), usual.weight, usual.bias))


def test_the_head_and_the_embedding_stay_in_floats():
    signs = partial(made, "binary_scaling", scale="per_tensor")
    found, usual = linears(Quantize(weight=signs)(plain())), plain()
    assert torch.equal(found["readout.head"].weight, usual.embedding.weight)
    assert {name for name, part in found.items() if len(part.weight.unique()) == 2} == found.keys() - {"readout.head"}


def test_a_layout_gives_each_layer_its_own():
    kinds = {"low": partial(made, "mxfp4"), "high": partial(made, "mxfp8_e5m2")}
    layout = ["blocks.0.mlp.*:low/high", "*.attention.*:high", "blocks.1.mlp.up:float/float"]
    change = rounded("mxint8", "int8", kinds=kinds, layout=layout)
    found, usual, x = linears(change(plain())), linears(plain()), normal(2, 3, 60)
    for name, weight, reading in [
        ("blocks.0.mlp.up", "mxfp4", "mxfp8_e5m2"),
        ("blocks.0.attention.q", "mxfp8_e5m2", "int8"),
        ("blocks.1.mlp.gate", "mxint8", "int8"),
    ]:
        wanted = F.linear(made(reading)(x), made(weight)(usual[name].weight), usual[name].bias)
        assert torch.equal(found[name](x), wanted), name
    assert type(found["blocks.1.mlp.up"]) is nn.Linear
    assert torch.equal(found["blocks.1.mlp.up"](x), usual["blocks.1.mlp.up"](x))


def test_bits_are_the_mean_of_what_is_rounded():
    asked = [QUANTIZE, "+format@change.quantize.kinds.low=mxfp4", "change.quantize.layout=[*.mlp.*:low,*.q:float]"]
    recipe = composed(*FEW, *asked)
    assert wiring.check_recipe(recipe) == []
    found = summary_metrics(wiring.build_decoder(recipe, VOCAB))
    usual = {name: part for name, part in linears(plain()).items() if name.startswith("blocks.")}
    total = bits = 0.0
    for name, part in usual.items():
        if not name.endswith(".q"):
            kept = 4 if ".mlp." in name else 8
            total += part.weight.numel()
            bits += part.weight.numel() * kept + 8 * part.out_features * -(-part.in_features // 32)
    assert found == {"weight_bits": pytest.approx(bits / total)}
    assert summary_metrics(rounded(None, "binary")(plain())) == {"activation_bits": 1}


def test_a_fitted_fraction_keeps_what_half_the_width_rounds_away():
    nothing = partial(made, "integer", fraction_width=None)  # (8, 4): a step of 1/16, where weights are N(0, 0.02)
    coarse = linears(Quantize(weight=nothing)(newborn("init=gpt2")))["blocks.0.attention.q"].weight
    fine = linears(Quantize(weight=partial(made, "integer", fraction_width="tensor"))(newborn("init=gpt2")))
    assert (coarse == 0).double().mean() > 0.85
    assert (fine["blocks.0.attention.q"].weight == 0).double().mean() < 0.05


# -- when


@torch.no_grad()
def calibrate(decoder: Decoder, batches: list[Tensor]) -> Decoder:
    """Rounding of a finished decoder: ranges watched on tokens (B, T), then turned on."""
    quantizers = [module for module in decoder.modules() if isinstance(module, Quantizer)]
    training = decoder.training
    decoder.eval()
    for state in (WATCHING, ON):
        for module in quantizers:
            module.set_state(state)
        for batch in batches if state == WATCHING else ():
            decoder(batch)
    return decoder.train(training)


def test_ranges_are_fitted_to_the_tokens_that_were_watched():
    change = Quantize(weight=None, activation=partial(made, "integer", fraction_width="tensor"), start=2)
    decoder, now = change(plain()), tokens(BATCH, TIME)
    assert torch.equal(logits(decoder, now), logits(plain(), now))  # not yet
    seen: list[Tensor] = []
    linears(decoder)["blocks.1.mlp.out"].register_forward_pre_hook(lambda _, args: seen.append(args[0].abs().max()))
    calibrate(decoder, [now[:1], now[1:]])
    part: Any = decoder.get_submodule("blocks.1.mlp.out.reading")
    assert part.format.most == max(seen).float()  # seen after the rounding, which was off while it watched
    said = logits(decoder, now)
    assert not torch.equal(said, logits(plain(), now))
    torch.testing.assert_close(said, logits(plain(), now), atol=0.1 * said.abs().max().item(), rtol=0)


def test_rounding_after_training_is_a_float_run_judged_in_its_format(tmp_path: Path):
    usual = finished(*tiny(tmp_path))
    after = finished(*tiny(tmp_path, QUANTIZE, "format@change.quantize.weight=mxfp4", "change.quantize.start=${steps}"))
    aware = finished(*tiny(tmp_path, QUANTIZE, "format@change.quantize.weight=mxfp4"))
    losses = [[row["train/loss"] for row in numbers(run)["metrics"] if "train/loss" in row] for run in (usual, after)]
    assert losses[0] == losses[1]
    found, other = summary(after), summary(usual)
    assert found["val/loss"] != other["val/loss"]
    assert 4.25 < found["weight_bits"] == summary(aware)["weight_bits"] < 4.5
    decoder, now = gptlab.load(after)[0], tokens(BATCH, 16)
    wanted = rounded("mxfp4")(gptlab.load(usual)[0])
    assert torch.equal(logits(decoder, now), logits(wanted, now))
    kept = dict(gptlab.load(aware)[0].trainable_parameters())["blocks.0.mlp.up.weight"]
    assert not torch.equal(made("mxfp4")(kept), kept)  # what learns stays in floats


def test_a_run_that_begins_to_round_is_resumed_while_it_watches(tmp_path: Path):
    folder = finished(*tiny(tmp_path, QUANTIZE, *TENSOR, "change.quantize.start=39"))
    killed = tampered(folder, tmp_path / "killed")
    assert train(f"resume={killed}").status == 0
    assert numbers(killed) == numbers(folder)


# -- chains


def on_grid(x: Tensor, choice: str) -> bool:
    return torch.equal(made(choice)(x), x)


@pytest.mark.parametrize("first", ["quantize", "prune"])
def test_what_is_pruned_is_rounded_and_what_is_rounded_pruned(first: str):
    steps = [rounded("integer"), Prune(sparsity=0.5)]
    decoder = newborn()
    for part in linears(decoder).values():
        nn.init.normal_(part.weight, generator=torch.Generator().manual_seed(0))
    for step in steps if first == "quantize" else reversed(steps):
        decoder = step(decoder)
    for name, part in linears(decoder).items():
        if name != "readout.head":
            assert on_grid(part.weight, "integer")
            masked = zeros(decoder)[name]
            assert masked >= round(0.5 * part.weight.numel())
    assert summary_metrics(decoder)["sparsity"] == pytest.approx(0.5, abs=1e-3)
    folded, now = merge(copy.deepcopy(decoder)), tokens(BATCH, TIME)
    assert torch.equal(logits(folded, now), logits(decoder, now))


def test_signs_have_no_zero_so_they_are_taken_before_pruning():
    signs = Quantize(weight=partial(made, "binary_scaling", scale="per_tensor"))
    decoder = Prune(sparsity=0.5)(signs(plain()))
    values = linears(decoder)["blocks.0.mlp.up"].weight.unique().tolist()
    assert values == [-values[2], 0, values[2]]
    with pytest.raises(ValueError, match=r"no 0, and blocks\.0\.attention\.q may be pruned; put quantize before prune"):
        signs(Prune(sparsity=0.5)(plain()))


@pytest.mark.parametrize("base", ["quantize", "pack"])
def test_adapters_learn_on_a_base_that_rests(base: str):
    first: Any = rounded("mxint8", "mxint8") if base == "quantize" else Pack(format=partial(made, "mxint8"))
    decoder = Lora(rank=3, alpha=6.0)(first(plain()))
    part: Any = decoder.get_submodule("blocks.0.mlp.up")
    nn.init.normal_(part.up.weight)
    x, weight = normal(2, 3, 60), made("mxint8")(linears(plain())["blocks.0.mlp.up"].weight)
    read = made("mxint8")(x) if base == "quantize" else x  # adapters see what came in
    wanted = F.linear(read, weight, part.base.bias) + 2 * x @ (part.up.weight @ part.down.weight).T
    torch.testing.assert_close(part(x), wanted)
    assert all(".up." in name or ".down." in name for name, _ in decoder.trainable_parameters())


# -- what is refused

LOW = "+format@change.quantize.kinds.low=mxfp4"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("change.quantize.weight=mxfp4", "change.quantize.weight='mxfp4' is not a choice or null; say "
         "format@change.quantize.weight=mxfp4"),
        ("change.quantize.weight.width=4", "change.quantize.weight.width: no such key; known: block, element, "
         "scale_mode, ste"),
        ("format@change.quantize.wieght=log", "change.quantize.wieght: no such key; did you mean "
         "change.quantize.weight?"),
        ("change.quantize.weight.block=0", "change.quantize.weight.block=0 is not in 1 .. 65536; try 1"),
        ("format@change.quantize.weight=integer change.quantize.weight.width=33",
         "change.quantize.weight.width=33 is not in 2 .. 32; try 32"),
        ("format@change.quantize.weight=binary", "change.quantize.weight=Binary makes weights of any size one size, "
         "which takes a norm after each product; take binary_scaling, which keeps the size"),
        ("change.quantize.weight=null", "change.quantize.weight=null and activation=null round nothing; give one of "
         "them a format, or a layout"),
        ("change.quantize.start=9 steps=8", "change.quantize.start=9 is after steps=8; try 8, after training"),
        ("change.quantize.start=-1", "change.quantize.start=-1 is negative; 0 rounds from the first step"),
        (" ".join(TENSOR), "change.quantize.start=0 leaves no step to watch activations; try 100"),
        ("change.quantize.layout=[*.mlp.*:low]", "change.quantize.layout=*.mlp.*:low is no glob:kind or "
         "glob:kind/kind of the kinds there are: float"),
        (f"{LOW} change.quantize.layout=[*.mpl.*:low]", "change.quantize.layout=*.mpl.* fits none of the targets; "
         "leave it out, or widen targets"),
        (f"{LOW} change.quantize.kinds.low.block=0 change.quantize.layout=[*.mlp.*:low]",
         "change.quantize.kinds.low.block=0 is not in 1 .. 65536; try 1"),
        ("format@change.quantize.activation=binary_scaling change.quantize.activation.scale=per_tensor",
         "change.quantize.activation.scale=per_tensor on an activation lets later tokens change earlier ones; try "
         "per_row"),
        ("change.quantize.weight._target_=gptlab.model.norm.rmsnorm.RMSNorm",
         "change.quantize.weight._target_=gptlab.model.norm.rmsnorm.RMSNorm is no Change; "
         "take one of gptlab.weights.change"),
        ("format=log", "format: nothing here takes it by itself; python -m gptlab explain format says what it is"),
    ],
)  # fmt: skip
def test_what_cannot_be_rounded_is_told_in_one_line(words: str, line: str):
    assert complaints(QUANTIZE, *words.split()) == [line]


def complaints(*words: str) -> list[str]:
    try:
        return wiring.check_recipe(composed(*FEW, *words))
    except Refused as refused:
        return [str(refused)]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["change=[prune,pack]"], "change.pack: targets: an earlier change has altered the decoder; put pack first, or "
         "pack the finished run by python -m gptlab export <run> --format mxint8"),
        (["change=[pack,prune]"], "change.prune.targets=blocks.* takes in blocks.0.attention.q, which is packed; "
         "change it before it is packed"),
        (["change=[pack,quantize]"], "change.quantize.targets=blocks.* takes in blocks.0.attention.q, which is packed; "
         "change it before it is packed"),
        (["change=[pack]", "format@change.pack.format=mxfp4"],
         "change.pack.format.element=e2m1 has no packed storage here; int8 has"),
        (["change=[pack]", "format@change.pack.format=log"],
         "change.pack.format=Log has no packed storage here; mxint8 and int8 have"),
        (["format@change.pack.format=int8"], "change.pack.format: pack is not in the list; say change=[pack]"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_is_told_in_one_line(words: list[str], line: str):
    assert complaints(*words) == [line]


# -- packed


@pytest.mark.parametrize("choice", ["mxint8", "int8"])
def test_packed_weights_say_what_rounded_ones_say(choice: str):
    decoder, now = plain().float(), tokens(BATCH, TIME)
    wanted = logits(rounded(choice)(copy.deepcopy(decoder)), now)
    packed = Pack(format=partial(made, choice))(decoder)
    assert torch.equal(logits(packed, now), wanted)
    assert not any("blocks" in name and p.dim() > 1 for name, p in packed.named_parameters())


@pytest.mark.parametrize("choice", ["mxint8", "int8"])
@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (352, 128), (128, 352)])  # of model=micro
def test_a_packed_linear_takes_a_quarter_in_memory_and_on_disk(choice: str, rows: int, columns: int):
    linear = nn.Linear(columns, rows, bias=False)
    packed, sizes = PackedLinear(linear, made(choice)), []
    assert packed.nbytes <= 0.27 * packed.float_bytes == 0.27 * linear.weight.nbytes
    assert packed.nbytes == sum(one.nbytes for one in (*packed.parameters(), *packed.buffers()))
    for one in (packed, linear):
        file = io.BytesIO()
        torch.save(one.state_dict(), file)
        sizes.append(len(file.getvalue()))
    assert sizes[0] <= 0.27 * linear.weight.nbytes + 2500  # what any file of two tensors takes
    assert sizes[0] <= 0.31 * sizes[1]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_linear_learns_as_a_rounded_one_and_keeps_no_floats(bias: bool, mixed: bool):
    linear, found = nn.Linear(64, 48, bias=bias), []
    packed = PackedLinear(copy.deepcopy(linear), made("mxint8"))
    linear.weight = nn.Parameter(packed.weight, requires_grad=False)
    for part in (linear, packed):
        x, kept = normal(2, 5, 64).float().requires_grad_(), []
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            with torch.autograd.graph.saved_tensors_hooks(
                lambda one, kept=kept: kept.append(one) or one, lambda one: one
            ):
                y = part(x)
            y.backward(torch.ones_like(y))
        found.append([y, x.grad, *(p.grad for p in part.parameters() if p.requires_grad), sum(o.numel() for o in kept)])
    *wanted, floats = found[0]
    *got, none = found[1]
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(got, wanted, strict=True))
    assert (len(got), none) == (2 + bias, 0)
    assert floats >= linear.weight.numel()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(*tiny(tmp_path_factory.mktemp("run"), "steps=5", "model.width=32"))


def exported(run: Path, *words: str) -> tuple[Path, str]:
    done = program("-m gptlab", "export", str(run), *words)
    assert done.status == 0, done.err
    return Path(done.out.splitlines()[-1]), done.out


@pytest.mark.parametrize("choice", ["mxint8", "int8"])
def test_a_packed_run_is_opened_like_any(run: Path, choice: str):
    folder, said = exported(run, "--format", choice)
    assert folder == run / choice
    decoder, now = gptlab.load(folder)[0], tokens(BATCH, 16)
    assert torch.equal(logits(decoder, now), logits(rounded(choice)(gptlab.load(run)[0]), now))
    found = json.loads((folder / "summary.json").read_text())
    assert found["packed_bytes"] <= 0.27 * found["unpacked_bytes"]
    assert f"{found['packed_bytes']:,} bytes" in said
    texts = [program("-m gptlab", "sample", str(one), "--length", "9", "--seed", "1") for one in (folder, folder, run)]
    assert [one.status for one in texts] == [0, 0, 0]
    assert texts[0].out == texts[1].out
    refused = program("-m gptlab", "export", str(run), "--format", choice)
    assert (refused.status, "is there already" in refused.err) == (2, True)


def test_what_was_done_to_a_run_is_folded_into_what_is_packed(tmp_path: Path):
    run = finished(*tiny(tmp_path, "change=[prune,lora]", "steps=5"))
    decoder, now = gptlab.load(exported(run, "--format", "mxint8")[0])[0], tokens(BATCH, 16)
    wanted = rounded("mxint8")(merge(gptlab.load(run)[0]))
    assert torch.equal(logits(decoder, now), logits(wanted, now))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--format", "mxint9"], "format=mxint9: no such option; choose from binary,"),
        (["--format", "mxfp4"], "change.pack.format.element=e2m1 has no packed storage here; int8 has"),
        ([], "export takes one of --to and --format"),
        (["--format", "int8", "--to", "hf"], "export takes one of --to and --format"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(run: Path, words: list[str], line: str):
    done = program("-m gptlab", "export", str(run), *words, "--into", str(run / "new"))
    assert done.status == 2
    assert line in done.err
    assert len(done.err.splitlines()) == 1
    assert not (run / "new").exists()


def test_rounded_activations_are_not_folded(tmp_path: Path):
    run = finished(*tiny(tmp_path, QUANTIZE, "format@change.quantize.activation=int8", "steps=2"))
    done = program("-m gptlab", "export", str(run), "--format", "int8")
    assert done.status == 2
    assert "rounds what Linears are given, which no plain Linear does" in done.err
    decoder: Decoder = gptlab.load(run)[0]
    with pytest.raises(Refused, match="keep the run as it is"):
        merge(decoder)
    assert type(linears(decoder)["blocks.0.mlp.up"]) is not nn.Linear
    assert changed(QUANTIZE)  # weights alone do fold, by the law of all changes
