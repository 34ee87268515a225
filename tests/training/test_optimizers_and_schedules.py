"""Optimisers against their formulas, the references, and each other; schedules at points computed by hand."""

import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VOCAB, choices, recipe, tokens
from test_resume import signalled
from tiny_runs import finished, numbers, rows, tiny, train

from gptlab import compose as wiring
from gptlab.config.factory import factory
from gptlab.training.cost.training_step import make_resting_optimizer
from gptlab.training.optimizer import is_hidden_matrix
from gptlab.training.optimizer.muon import Muon, orthogonalize
from gptlab.training.schedule.wsd import WarmupStableDecay

Named = dict[str, torch.nn.Parameter]


def made(case: str, named: Named, **knobs: Any) -> torch.optim.Optimizer:
    """An optimiser of the menu over some parameters."""
    return factory(recipe(f"optimizer={case}").config["optimizer"], "optimizer")(named.items(), **knobs)


def parameters() -> Named:
    """A matrix of a block lying and one standing, an embedding, a gain."""
    shapes = {
        "blocks.0.a.weight": (6, 10),
        "blocks.0.b.weight": (10, 6),
        "embedding.weight": (7, 6),
        "norm.weight": (6,),
    }
    random = torch.Generator().manual_seed(0)
    return {name: torch.nn.Parameter(torch.randn(shape, generator=random)) for name, shape in shapes.items()}


def gradients(named: Named, step: int) -> None:
    """Sets the gradients of a step."""
    random = torch.Generator().manual_seed(1 + step)
    for p in named.values():
        p.grad = torch.randn(p.shape, generator=random)


# -- every optimiser


@pytest.mark.parametrize("case", choices("optimizer"))
def test_only_matrices_decay(case: str):
    named = parameters()
    optimizer = made(case, named, lr=1e-3, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in named.items()}
    for p in named.values():
        p.grad = torch.zeros_like(p)
    for _ in range(2 if case == "soap" else 1):  # SOAP finds its bases first, and moves nothing
        optimizer.step()
    for name, p in named.items():
        kept = p.detach() / before[name]  # momentum that looks ahead lets it decay 1.9 times as much
        low, high = (0.9990, 0.9996) if p.ndim == 2 else (1, 1)
        assert low <= kept.min() <= kept.max() <= high, name


@pytest.mark.parametrize("case", choices("optimizer"))
def test_a_step_that_is_only_timed_leaves_every_weight_as_it_was(case: str):
    named, before = parameters(), parameters()
    optimizer = make_resting_optimizer(lambda pairs: made(case, dict(pairs)), named.items())
    for step in range(4):
        gradients(named, step)
        optimizer.step()
    assert all(torch.equal(named[name], before[name]) for name in named)


def test_measuring_a_step_before_training_changes_no_loss(tmp_path: Path):
    # Muon has two rates, and one of them moved the embeddings while steps were timed
    words = ["steps=1", "log_every=1"]
    folders = [finished(*tiny(tmp_path / case, f"optimizer={case}", *words)) for case in ("adamw", "muon", "normuon")]
    firsts = [rows(folder / "metrics.jsonl")[0]["train/loss"] for folder in folders]
    assert len({*firsts}) == 1


@pytest.mark.parametrize("case", choices("optimizer"))
def test_all_that_an_optimiser_remembers_is_in_its_state(case: str):
    whole, parts = parameters(), parameters()
    one, other = made(case, whole), made(case, parts)
    for step in range(4):
        for named, optimizer in ((whole, one), (parts, other)):
            gradients(named, step)
            optimizer.step()
        fresh = made(case, parts, lr=1.0)
        fresh.load_state_dict(other.state_dict())
        other = fresh
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.few(3)
@pytest.mark.parametrize("case", choices("optimizer"))
def test_every_optimiser_learns_and_resumes_bit_for_bit(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    overrides = tiny(tmp_path, f"optimizer={case}")
    whole = numbers(finished(*overrides))
    with monkeypatch.context() as patch:
        signalled(patch, 20)
        folder = train(*overrides).folder
    assert train(f"resume={folder}").status == 0
    assert numbers(folder) == whole
    losses = [row["train/loss"] for row in whole["metrics"] if "train/loss" in row]
    assert losses[-1] < losses[0] - 0.03


# -- formulas


def test_adopt_is_its_formula():
    named = parameters()
    p, m, v = (x.detach().clone() for x in (named["embedding.weight"], torch.zeros(7, 6), torch.zeros(7, 6)))
    optimizer = made("adopt", named, lr=0.01, betas=[0.8, 0.9], weight_decay=0.3, eps=0.1)
    for step in range(4):
        gradients(named, step)
        g = named["embedding.weight"].grad
        assert g is not None
        p = p - 0.01 * 0.3 * p
        if step:
            m = 0.8 * m + 0.2 * (g / v.sqrt().clamp(min=0.1)).clamp(-(step**0.25), step**0.25)
            p = p - 0.01 * m
            v = 0.9 * v + 0.1 * g**2
        else:
            v = g**2
        optimizer.step()
    torch.testing.assert_close(named["embedding.weight"].detach(), p)


def test_ademamix_is_its_formula_and_adamw_without_its_slow_mean():
    named, plain, reference = parameters(), parameters(), parameters()
    p, m, slow, v = (x.detach().clone() for x in (named["embedding.weight"], *torch.zeros(3, 7, 6)))
    knobs = {"lr": 0.01, "betas": [0.8, 0.9], "weight_decay": 0.3}
    mixed = made("ademamix", named, **knobs, slow_beta=0.99, alpha=3.0, warmup=4)
    fast, adamw = made("ademamix", plain, **knobs, alpha=0.0), made("adamw", reference, **knobs)
    for step in range(1, 7):
        for parts, optimizer in ((named, mixed), (plain, fast), (reference, adamw)):
            gradients(parts, step)
            optimizer.step()
        g = named["embedding.weight"].grad
        assert g is not None
        done = min(1.0, step / 4)
        b3 = math.exp(math.log(0.8) * math.log(0.99) / ((1 - done) * math.log(0.99) + done * math.log(0.8)))
        m, slow, v = 0.8 * m + 0.2 * g, b3 * slow + (1 - b3) * g, 0.9 * v + 0.1 * g**2
        update = (m / (1 - 0.8**step) + 3 * done * slow) / ((v / (1 - 0.9**step)).sqrt() + 1e-8)
        p = p - 0.01 * (update + 0.3 * p)
    torch.testing.assert_close(named["embedding.weight"].detach(), p)
    torch.testing.assert_close(plain, reference)


def test_schedule_free_is_its_formula():
    named = parameters()
    name = "embedding.weight"
    x, v = named[name].detach().clone(), torch.zeros(7, 6)
    y, z, total, largest = x, x, 0.0, 0.0
    optimizer = made("schedule_free", named, lr=0.01, betas=[0.8, 0.9], weight_decay=0.3)
    for step, lr in enumerate((0.01, 0.02, 0.015, 0.005)):
        gradients(named, step)
        g = named[name].grad
        assert g is not None
        for group in optimizer.param_groups:
            group["lr"] = lr
        v = 0.9 * v + 0.1 * g**2
        z = z - lr * (g / ((v / (1 - 0.9 ** (step + 1))).sqrt() + 1e-8) + 0.3 * y)
        largest = max(largest, lr)
        total += largest**2
        x = x + largest**2 / total * (z - x)
        y = 0.8 * x + 0.2 * z
        optimizer.step()
    torch.testing.assert_close(named[name].detach(), y)
    averages = {id(p): average for p, average in optimizer.average_weights()}  # type: ignore[attr-defined]
    torch.testing.assert_close(averages[id(named[name])], x)


def test_normuon_is_its_formula():
    named, name = parameters(), "blocks.0.a.weight"
    p, m, v = named[name].detach().clone(), torch.zeros(6, 10), torch.zeros(6, 1)
    optimizer = made("normuon", named, lr=0.01, momentum=0.8, neuron_beta=0.9, weight_decay=0.3)
    for step in range(3):
        gradients(named, step)
        g = named[name].grad
        assert g is not None
        m = 0.8 * m + 0.2 * g
        o = orthogonalize((0.2 * g + 0.8 * m)[None], 5)[0]
        v = 0.9 * v + 0.1 * (o**2).mean(1, keepdim=True)
        o = o / v.sqrt()
        p = p - 0.01 * 0.3 * p - 0.2 * 0.01 * 60**0.5 * o / o.norm()
        optimizer.step()
    torch.testing.assert_close(named[name].detach(), p)


def test_a_normuon_step_has_an_exact_size_and_rows_alike():
    named = parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = made("normuon", named, lr=0.01, weight_decay=0.0)
    gradients(named, 0)
    optimizer.step()
    for name in ("blocks.0.a.weight", "blocks.0.b.weight"):
        step = before[name] - named[name].detach()
        assert step.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=1e-3)
        rows = step.square().mean(1).sqrt()
        torch.testing.assert_close(rows, torch.full_like(rows, 0.2 * 0.01), rtol=1e-3, atol=0)


def test_cautious_decay_acts_where_the_step_shrinks_a_weight_too():
    plain, careful, none = parameters(), parameters(), parameters()
    for named, knobs in ((plain, {}), (careful, {"cautious": True}), (none, {"weight_decay": 0.0})):
        optimizer = made("muon", named, **{"lr": 0.01, "weight_decay": 0.5, **knobs})
        gradients(named, 0)
        optimizer.step()
    name, start = "blocks.0.a.weight", parameters()["blocks.0.a.weight"]
    shrinks = (start - none[name]) * start > 0
    assert shrinks.any()
    assert not shrinks.all()
    torch.testing.assert_close(careful[name], torch.where(shrinks, plain[name], none[name]))


def test_polar_express_brings_singular_values_nearer_to_one():
    x = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0)).double()
    jordan, polar = (torch.linalg.svdvals(orthogonalize(x, 6, name)) for name in ("jordan", "polar_express"))
    assert (polar - 1).abs().max() < 0.02 < (jordan - 1).abs().max()


def test_polar_express_is_the_paper_s_algorithm():
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)).double()
    published = [  # Algorithm 1 of arXiv:2505.16932
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
        (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
        (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
        (1.875, -1.25, 0.375),
    ]
    y = x / (1.01 * x.norm())
    for turn in range(9):
        a, b, c = published[min(turn, 7)]
        if turn < 7:
            a, b, c = a / 1.01, b / 1.01**3, c / 1.01**5
        gram = y @ y.T
        y = a * y + (b * gram + c * gram @ gram) @ y
        torch.testing.assert_close(orthogonalize(x[None], turn + 1, "polar_express")[0], y)


def test_soap_is_adam_in_the_eigenbasis_of_the_preconditioners():
    name = "blocks.0.square.weight"  # whose gradients have full rank, so that their eigenvectors are determined
    named = {name: torch.nn.Parameter(torch.ones(6, 6).double())}
    optimizer = made("soap", named, lr=0.01, betas=[0.9, 0.9], weight_decay=0.3, every=2)
    p, m, v = (x.detach().double().clone() for x in (named[name], torch.zeros(6, 6), torch.zeros(6, 6)))
    left = right = torch.zeros(6, 6)
    bases = [left, right]
    for step in range(4):
        g = torch.randn(6, 6, generator=torch.Generator().manual_seed(1 + step)).double()
        named[name].grad = g.clone()
        if step == 0:
            left, right = g @ g.T * 0.1, g.T @ g * 0.1
            bases = [torch.linalg.eigh(one)[1].flip(1) for one in (left, right)]
        else:
            turned = bases[0].T @ g @ bases[1]
            m, v = 0.9 * m + 0.1 * turned, 0.9 * v + 0.1 * turned**2
            fixed = 1 - 0.9**step
            p = p - 0.01 * bases[0] @ (m / fixed / ((v / fixed).sqrt() + 1e-8)) @ bases[1].T
            p = p - 0.01 * 0.3 * p
            left, right = 0.9 * left + 0.1 * g @ g.T, 0.9 * right + 0.1 * g.T @ g
            if step % 2 == 0:
                mean = bases[0] @ m @ bases[1].T
                for side, one in enumerate((left, right)):
                    order = torch.diag(bases[side].T @ one @ bases[side]).argsort(descending=True)
                    v = v[order] if side == 0 else v[:, order]
                    bases[side] = torch.linalg.qr(one @ bases[side][:, order])[0]
                m = bases[0].T @ mean @ bases[1]
        optimizer.step()
    torch.testing.assert_close(named[name].detach(), p)


def test_lion_is_its_formula():
    named = parameters()
    p, m = (x.detach().clone() for x in (named["embedding.weight"], torch.zeros(7, 6)))
    optimizer = made("lion", named, lr=0.01, betas=[0.8, 0.9], weight_decay=0.3)
    for step in range(3):
        gradients(named, step)
        g = named["embedding.weight"].grad
        assert g is not None
        p = p - 0.01 * ((0.8 * m + 0.2 * g).sign() + 0.3 * p)
        m = 0.9 * m + 0.1 * g
        optimizer.step()
    torch.testing.assert_close(named["embedding.weight"].detach(), p)


def test_sgd_is_its_formula():
    named = parameters()
    p, m = (x.detach().clone() for x in (named["embedding.weight"], torch.zeros(7, 6)))
    optimizer = made("sgd", named, lr=0.01, momentum=0.8, weight_decay=0.3)
    for step in range(3):
        gradients(named, step)
        g = named["embedding.weight"].grad
        assert g is not None
        g = g + 0.3 * p
        m = 0.8 * m + g
        p = p - 0.01 * (g + 0.8 * m)
        optimizer.step()
    torch.testing.assert_close(named["embedding.weight"].detach(), p)


def test_adamw_is_torch_s_bit_for_bit():
    mine, theirs = parameters(), parameters()
    groups = [{"params": [p for p in theirs.values() if (p.ndim > 1) is wide]} for wide in (True, False)]
    optimizer = made("adamw", mine, lr=0.01)
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    reference.param_groups[1]["weight_decay"] = 0.0
    for step in range(5):
        for named, one in ((mine, optimizer), (theirs, reference)):
            gradients(named, step)
            one.param_groups[0]["lr"] = 0.01 / (step + 1)
            one.step()
    assert all(torch.equal(p, theirs[name]) for name, p in mine.items())


def test_muon_is_torch_s_muon_and_torch_s_adamw():
    mine, theirs = parameters(), parameters()
    blocks = [p for name, p in theirs.items() if name.startswith("blocks.")]
    optimizer = made("muon", mine, lr=0.01, adam_lr=None)
    references = [
        torch.optim.Muon(blocks, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([theirs["embedding.weight"]], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
        torch.optim.AdamW([theirs["norm.weight"]], lr=0.01, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    for step in range(3):
        gradients(mine, step)
        gradients(theirs, step)
        for one in (optimizer, *references):
            one.step()
    for name, p in mine.items():  # torch iterates in bfloat16, also on CPU
        torch.testing.assert_close(p, theirs[name], atol=1e-3 if is_hidden_matrix(name, p) else 1e-6, rtol=0)


def test_muon_s_matrices_move_at_five_times_the_model_s_rate_and_the_rest_at_it():
    config = recipe("optimizer=muon").config
    rates = [group["lr"] for group in made("muon", parameters()).param_groups]
    assert rates == pytest.approx([5 * config["model"]["lr"], config["model"]["lr"], config["model"]["lr"]])


def test_lion_decays_as_the_paper_does_by_the_product_of_rate_and_decay():
    lion, adamw = (recipe(f"optimizer={case}").config["optimizer"] for case in ("lion", "adamw"))
    assert lion["lr"] * lion["weight_decay"] == pytest.approx(adamw["lr"] * adamw["weight_decay"])


def test_an_orthogonal_matrix_has_singular_values_near_one():
    x = torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(0)).double()
    values = torch.linalg.svdvals(orthogonalize(x, 5))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_muon_has_every_linear_of_the_blocks_and_nothing_else():
    decoder = wiring.build_decoder(recipe("optimizer=muon"), VOCAB)
    optimizer = made("muon", dict(decoder.named_parameters()))
    assert isinstance(optimizer, Muon)
    linears = {m.weight for m in decoder.blocks.modules() if isinstance(m, torch.nn.Linear)}
    assert set(optimizer.param_groups[0]["params"]) == linears
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(decoder.parameters()))
    decoder(tokens(2, 9), tokens(2, 9)).loss.backward()
    optimizer.step()


# -- schedules


def schedule(case: str, **knobs: Any) -> Any:
    """A schedule of the menu."""
    return factory(recipe(f"schedule={case}").config["schedule"], "schedule")(**knobs)


@pytest.mark.parametrize("case", choices("schedule"))
def test_a_schedule_rises_to_the_peak_then_never_rises_and_never_jumps(case: str):
    made_schedule = schedule(case)
    at = [made_schedule(k / 2000) for k in range(2001)]
    peak = round(made_schedule.warmup * 2000)
    assert at[0] == 0
    assert at[peak] == pytest.approx(1)
    assert at[peak // 2] == pytest.approx(0.5)
    assert all(one >= other for one, other in itertools.pairwise(at[peak:]))
    assert all(0 <= one <= 1 for one in at)
    assert max(abs(one - other) for one, other in itertools.pairwise(at)) <= 0.0101  # of 1 / 100 in warm-up


@pytest.mark.parametrize(
    ("case", "knobs", "points"),
    [
        ("constant", {"warmup": 0.2}, {0.1: 0.5, 0.2: 1, 1: 1}),
        ("linear", {"warmup": 0.2, "floor": 0.5}, {0.2: 1, 0.6: 0.75, 1: 0.5}),
        ("cosine", {"warmup": 0.2, "floor": 0.0}, {0.4: (2 + math.sqrt(2)) / 4, 0.6: 0.5, 1: 0}),
        ("wsd", {"warmup": 0.1, "decay": 0.4, "floor": 0.0}, {0.1: 1, 0.6: 1, 0.7: 0.75, 0.8: 0.5, 1: 0}),
        ("wsd", {"warmup": 0.1, "decay": 0.4, "shape": "one_minus_sqrt", "floor": 0.2}, {0.6: 1, 0.7: 0.6, 1: 0.2}),
        ("wsd", {"warmup": 0.0, "decay": 1.0, "floor": 0.0}, {0.0: 1, 0.25: 0.75, 1: 0}),
        ("inverse_sqrt", {"warmup": 0.01}, {0.005: 0.5, 0.04: 0.5, 0.09: 1 / 3, 1: 0.1}),
        ("inverse_sqrt", {"warmup": 0.0, "timescale": 1 / 3}, {0.0: 1, 1: 0.5}),
    ],
)
def test_schedules_at_points_computed_by_hand(case: str, knobs: dict[str, Any], points: dict[float, float]):
    made_schedule = schedule(case, **knobs)
    assert {at: made_schedule(at) for at in points} == pytest.approx(points)


@pytest.mark.parametrize(
    ("case", "mean"),
    [("cosine", 0.5475), ("linear", 0.5475), ("wsd", 0.885), ("constant", 0.975), ("inverse_sqrt", 0.373)],
)
def test_the_mean_factor_of_a_schedule(case: str, mean: float):
    assert schedule(case).mean() == pytest.approx(mean, abs=1e-3)


def test_a_decay_is_refused_by_the_warm_up_that_is_in_force():
    with pytest.raises(ValueError, match=r"decay=0\.97 is not in \(0, 0\.95\], which warmup=0\.05 leaves of the run"):
        WarmupStableDecay(decay=0.97)
    # warmup_steps stands in place of warmup, which then has no say
    WarmupStableDecay(decay=0.97, warmup_steps=1)
    with pytest.raises(ValueError, match=r"^decay=1\.5 is not a part of the run in \(0, 1\]; try 0\.2$"):
        WarmupStableDecay(decay=1.5, warmup_steps=1)


def test_schedules_that_have_a_floor_have_the_same_one():
    nodes = {case: recipe(f"schedule={case}").config["schedule"] for case in choices("schedule")}
    assert {node["floor"] for case, node in nodes.items() if "floor" in node and case != "linear_to_zero"} == {0.1}


def test_an_optimizer_imports_no_compiler():
    script = """
import sys, torch
from gptlab.training.optimizer.adamw import AdamW
p = torch.nn.Parameter(torch.zeros(2, 2))
optimizer = AdamW([("p", p)], lr=1e-3)
p.sum().backward()
optimizer.step()
optimizer.zero_grad()
assert p.grad is None and "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
