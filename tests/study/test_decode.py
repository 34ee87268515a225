"""Laws of study=decode: every decoding variant writes what a whole pass says."""

from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import SIZES, decoder, tokens
from tiny_runs import program, tiny

from gptlab.errors import Refused
from gptlab.report.measurement_folder import load_measurements
from gptlab.study.decode import DecodeBench
from gptlab.study.tools.cached_decoding import CACHED_VARIANTS, Int4Linear
from gptlab.study.tools.uncached_decoding import TOGGLES, UncachedDecoder, look_up_activation, tabulate_activation

SMALL = (*SIZES, "model.layers=2")


@pytest.mark.parametrize(
    "case", ["position=learned mlp=gelu_tanh norm=layernorm", "attention=swa mlp=swiglu position=alibi"]
)
def test_all_toggles_of_uncached_decoding_say_what_the_whole_says(case: str):
    made = decoder(case, SMALL)
    uncached, now = UncachedDecoder(made, 9), tokens(1, 9)
    with torch.no_grad():
        whole = made(now).logits
    for number, chosen in enumerate(product([False, True], repeat=len(TOGGLES) - 1)):
        on = frozenset(name for name, there in zip(TOGGLES, chosen, strict=False) if there)
        uncached.compute_logits(now[:, :6], on, fresh=True)
        for length in (7, 8, 9) if number % 8 == 7 else (7,):
            torch.testing.assert_close(uncached.compute_logits(now[:, :length], on), whole[:, length - 1])


def test_what_the_toggles_leave_out_is_not_computed():
    made = decoder("position=learned mlp=gelu_tanh", SMALL)
    uncached, now = UncachedDecoder(made, 9), tokens(1, 9)
    uncached.compute_logits(now[:, :8], frozenset(), fresh=True)
    kept = {name: rows.clone() for name, rows in uncached.stored.items()}
    uncached.compute_logits(now, frozenset(TOGGLES[:5]))
    for name, rows in kept.items():
        assert torch.equal(rows[:, :8], uncached.stored[name][:, :8]), name


def test_the_table_is_the_activation_at_halves():
    act = torch.nn.GELU(approximate="tanh")
    halves = tabulate_activation(act)
    assert halves.nbytes == 2**17
    for bits, value in {
        0x3C00: 0.84130859375,
        0xBC00: -0.1588134765625,
        0x3800: 0.345703125,
        0x4200: 2.99609375,
    }.items():
        assert halves[bits].item() == value
    x = torch.linspace(-12, 12, 9999)
    assert (look_up_activation(x, halves) - act(x)).abs().max() < 4e-3
    odd = look_up_activation(torch.tensor([-torch.inf, torch.inf, torch.nan, -10.0, 10.0, -0.0]), halves)
    assert odd[[0, 1, 3, 4, 5]].tolist() == [0, torch.inf, 0, 10, 0]
    assert odd[2].isnan()


@pytest.mark.parametrize("case", ["attention=linear", "residual=hyper", "mlp=moe"])
def test_what_has_no_rows_has_no_uncached_variants(case: str):
    with pytest.raises(Refused, match="uncached decoding needs"):
        UncachedDecoder(decoder(case, SMALL), 9).compute_logits(tokens(1, 9), frozenset(), fresh=True)


# -- the variants


@pytest.mark.parametrize(("variant", "off"), [("naive", 1e-6), ("sdpa", 1e-6), ("bf16", 0.05), ("int8", 0.05)])
def test_a_variant_says_what_the_whole_says_up_to_its_numbers(variant: str, off: float):
    found = DecodeBench(
        decoder("position=learned mlp=gelu_tanh init=gpt2", SMALL).float(), 20, [variant], 1
    ).measure_exactness(variant)
    assert found["logits off"] < off
    assert found["tokens alike"] > (0.99 if off < 0.01 else 0.7)


def test_four_bits_are_sixteen_levels_a_group():
    linear = torch.nn.Linear(40, 21)
    weight = torch.nn.functional.pad(linear.weight.detach(), (0, 24)).unflatten(1, (2, 32))  # groups of 32
    low, high = weight.aminmax(dim=-1, keepdim=True)
    step = (high - low) / 15
    near = (((weight - low) / step).round() * step + low).flatten(1)[:, :40]
    x = torch.randn(2, 3, 40).bfloat16()
    found = Int4Linear(linear).bfloat16()(x)
    wanted = x.float() @ near.T + linear.bias
    assert (found.float() - wanted).abs().max() < 0.03
    assert (linear.weight - near).abs().max() <= step.max() / 2 + 1e-6


def test_bytes_that_a_token_meets():
    made = decoder("readout=untied", SMALL).float()
    weights = sum(p.numel() for name, p in made.named_parameters() if name != "embedding.weight")
    assert CACHED_VARIANTS["sdpa"](made, 1).count_weight_bytes() == 4 * weights
    assert CACHED_VARIANTS["bf16"](made, 1).count_weight_bytes() == 2 * weights
    assert CACHED_VARIANTS["int8"](made, 1).count_weight_bytes() < 1.1 * weights
    assert CACHED_VARIANTS["int4"](made, 1).count_weight_bytes() < 1.1 * weights


# -- the study


STUDY = (
    "study=decode",
    "study.tokens=16",
    "study.rungs=[none,+linear,attention-norm,sdpa]",
    "study.rounds=6",
    "seeds=2",
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study of two blocks was measured."""
    path = tmp_path_factory.mktemp("decode")
    assert program("ablate.py", *tiny(path), *STUDY).status == 0
    return path


def test_a_study_measures_each_block_once_and_ends_in_tables(pool: Path):
    (folder,) = (pool / "ablations").iterdir()
    assert not (pool / "runs").exists()
    before = {path.name: path.read_bytes() for path in (folder / "rows").iterdir()}
    assert len(before) == 2
    done = program("ablate.py", *tiny(pool), *STUDY)
    assert "2 of them done" in done.out
    assert {path.name: path.read_bytes() for path in (folder / "rows").iterdir()} == before
    found = load_measurements(folder)
    (timing,) = found.timings
    assert (found.baseline, timing.rounds) == ("none", 12)
    assert [*timing.medians] == sorted(["none", "+linear", "attention-norm", "sdpa", "limit"])
    assert max(found.values["logits off"].values()) < 1e-4
    for word in ("attention-norm", "ratios to none", "differs from itself by"):
        assert word in (folder / "report.md").read_text()
    assert len((folder / "results.csv").read_text().splitlines()) == 1 + 2 * (6 * 6 + 4 * 4)


def test_a_block_that_is_missing_is_measured_again_and_the_others_are_not(pool: Path):
    (folder,) = (pool / "ablations").iterdir()
    first, second = sorted((folder / "rows").iterdir())
    kept = first.read_bytes()
    second.unlink()
    assert "1 of them done" in program("ablate.py", *tiny(pool), *STUDY).out
    assert second.exists()
    assert first.read_bytes() == kept
    said = program("-m gptlab", "compare", str(folder))
    assert "attention-norm" in said.out
    assert "measured" in program("-m gptlab", "status", str(folder)).out


@pytest.mark.parametrize(("words", "line"), [
    ("study.rungs=[fast]", "study.rungs: fast is no variant; choose from none, +attention, +linear, "),
    ("study.tokens=17", "default: study.tokens=17 is not in 8 .. model.context=16; try study.tokens=16"),
    ("study.draft_layers=1 study.rungs=null", "default: study.draft_layers=1 is not less than model.layers=1; try 1"),
    ("study.rounds=0", "study.rounds=0 is less than 1; give 1 or more"),
    ("tune=grid", "tune=grid does not go with study=decode, which trains nothing; leave it out"),
    ("study.what=1", "study.what: no such key; known: "),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_before_anything_is_written(words: str, line: str, tmp_path: Path):
    given = {one.partition("=")[0] for one in words.split()}
    study = [one for one in STUDY if one.partition("=")[0] not in given]
    done = program("ablate.py", *tiny(tmp_path), *study, *words.split())
    assert done.status == 2
    assert done.err.startswith(f"error: {line}")
    assert not (tmp_path / "ablations").exists()
