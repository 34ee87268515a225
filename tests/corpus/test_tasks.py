"""Laws of synthetic tasks: answers are right by a reading of their own, batches depend on (seed, step) alone."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CONF, composed, recipe
from tiny_runs import finished, rows, summary, tiny, train

from gptlab.config.factory import factory
from gptlab.config.recipe import Recipe
from gptlab.corpus.data import Examples, SyntheticTask, draw_distinct
from gptlab.corpus.datamodule import DataModule
from gptlab.corpus.load import read_corpus
from gptlab.corpus.task_corpus import TaskCorpus
from gptlab.errors import Refused
from gptlab.model.shape import IGNORED
from gptlab.training.build import build_decoder
from gptlab.training.check import check_recipe
from gptlab.training.metric.written_answers import WrittenAnswers

TASKS = [file.stem for file in sorted((CONF / "data").glob("*.yaml")) if "symbols" in file.read_text()]
SMALL = {
    "mqar": "data.vocab=64 data.pairs=[2,4]",
    "copy": "data.length=8 data.judged_length=12",
    "brevo": "data.nodes=5",
    "depo": "data.nodes=4 data.questions=2 data.letters=5",
}
"""Knobs that make a task quick, or harder in validation."""


def corpus(task: str, *more: str) -> TaskCorpus:
    """The corpus of a task at 32 tokens, with few examples."""
    knobs = ["data.examples=40", "model.context=32", *SMALL.get(task, "").split(), *more]
    made = read_corpus(composed(f"data={task}", *knobs))
    assert isinstance(made, TaskCorpus)
    return made


def answers(made: TaskCorpus, examples: Examples | None = None) -> list[tuple[list[str], list[tuple[int, str]]]]:
    """Each example in words: its inputs, and the places where something is asked with the answer."""
    inputs, targets, _ = examples or made.judged
    names = made.task.symbols()
    return [
        (
            [names[token] for token in row],
            [(place, names[asked[place]]) for place in np.flatnonzero(asked != IGNORED).tolist()],
        )
        for row, asked in zip(inputs, targets, strict=True)
    ]


# -- laws of every task


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_a_function_of_seed_and_step(task: str):
    first, second = corpus(task), corpus(task)
    for mine, other in zip(first.make_batch(3, 8, 6, 32), second.make_batch(3, 8, 6, 32), strict=True):
        assert mine.dtype == other.dtype == np.int64
        assert mine.shape == (6, 32)
        assert (mine == other).all()
    for seed, step in ((3, 9), (4, 8)):
        assert (first.make_batch(3, 8, 6, 32)[0] != first.make_batch(seed, step, 6, 32)[0]).any()


@pytest.mark.parametrize("task", TASKS)
def test_validation_is_of_another_stream_and_the_same_for_every_seed(task: str):
    made, other = corpus(task), corpus(task, "seed=5")
    assert made.sha256 == other.sha256
    assert (made.judged.inputs == other.judged.inputs).all()
    assert (made.make_batch(0, 0, 40, 32)[0] != made.judged.inputs).any()


@pytest.mark.parametrize("task", TASKS)
def test_every_example_asks_something_and_every_answer_has_a_difficulty(task: str):
    made = corpus(task)
    inputs, targets, _ = made.judged
    symbols = made.task.symbols()
    assert len({*symbols}) == len(symbols) == made.tokenizer.vocab
    assert 0 <= inputs.min() <= inputs.max() < len(symbols)
    assert targets[targets != IGNORED].min() >= 0
    assert (targets != IGNORED).any(1).all()
    if made.task.has_many_answers:
        assert min(levels.min() for levels in made.judged.difficulty.values()) > 0
    assert made.list_difficulty() or made.task.has_many_answers
    for levels in made.list_difficulty().values():
        assert levels.shape == made.find_scored_places(32).shape
        assert levels.min() > 0
    words = made.tokenizer.decode(inputs[0])
    assert (made.tokenizer.encode(words) == inputs[0]).all()


@pytest.mark.parametrize("task", TASKS)
def test_a_context_that_is_too_short_is_refused(task: str):
    made: SyntheticTask = factory(composed(f"data={task}").config["data"], "data")()
    if made.count_tokens() > 1:
        with pytest.raises(Refused, match=f"say model.context={made.count_tokens()}"):
            made.refuse_short_context(made.count_tokens() - 1)
    made.refuse_short_context(made.count_tokens())


# -- each task by a reading of its own


def test_mqar_asks_for_the_value_of_a_key():
    made = corpus("mqar", "data.noise=false")
    for words, asked in answers(made):
        count = len(asked)
        pairs = dict(zip(words[: 2 * count : 2], words[1 : 2 * count : 2], strict=True))
        assert len(pairs) == len({*pairs.values()}) == count in (2, 4)
        assert {words[place]: answer for place, answer in asked} == pairs
        assert all(place >= 2 * count and place % 2 == 0 for place, _ in asked)
        assert {*words[2 * count :]} == {".", *pairs}


def test_gaps_of_mqar_follow_the_power_law():
    made = corpus("mqar", "data.pairs=1", "data.power=0.5", "data.examples=20000")
    ranks = (made.find_scored_places(32) - 2) // 2
    wanted = np.arange(1.0, 16.0) ** -0.5
    counts, wanted = np.bincount(ranks, minlength=15), 20000 * wanted / wanted.sum()
    assert ((counts - wanted) ** 2 / wanted).sum() < 36.1  # chi-squared of 14 degrees: one seed in a thousand


def test_copy_asks_for_the_string_and_its_validation_may_be_longer():
    made = corpus("copy")
    lengths = set()
    for words, asked in answers(made):
        length = words.index("=")
        lengths.add(length)
        assert [answer for _, answer in asked] == words[:length]
        assert [place for place, _ in asked] == [*range(length, 2 * length)]
        assert words[length + 1 : 2 * length] == words[: length - 1]
        assert {*words[2 * length :]} <= {"."}
    assert max(lengths) == 12
    trained = answers(made, made.task.generate(np.random.default_rng(0), 200, 32, judged=False))
    assert {words.index("=") for words, _ in trained} == {*range(1, 9)}


def test_selective_copy_asks_for_the_letters_in_order():
    for words, asked in answers(corpus("selective_copy", "data.count=5")):
        field = words[: words.index("=")]
        assert [answer for _, answer in asked] == [word for word in field if word != "."]
        assert len(asked) == 5
        assert words[27:] == ["="] * 5


def test_induction_asks_what_followed_the_sign():
    for words, asked in answers(corpus("induction")):
        assert asked == [(31, words[words.index("!") + 1])]
        assert words.count("!") == 2


@pytest.mark.parametrize("knobs", ["", "data.swaps=true", "data.length=9 data.judged_length=20"])
@pytest.mark.parametrize("task", ["parity", "s5"])
def test_state_tracking_asks_for_the_product_so_far(task: str, knobs: str):
    for words, asked in answers(corpus(task, *knobs.split())):
        state = tuple(range(len(words[0])))
        assert [place for place, _ in asked] == [*range(20 if "judged" in knobs else 32)]
        for place, answer in asked:
            state = tuple(int(words[place][at]) for at in state)
            assert tuple(map(int, answer)) == state
        if "swaps" in knobs:
            assert all(sum(int(letter) != at for at, letter in enumerate(word)) in (0, 2) for word in words)


def read_prefix(words: list[str], modulus: int) -> tuple[int, list[str]]:
    """The value of an expression in prefix notation, and what is left of the words."""
    first, *rest = words
    if first not in ("+", "-", "*"):
        return int(first), rest
    left, rest = read_prefix(rest, modulus)
    right, rest = read_prefix(rest, modulus)
    return {"+": left + right, "-": left - right, "*": left * right}[first] % modulus, rest


def test_mano_asks_for_the_values_of_expressions_in_prefix_notation():
    made, seen = corpus("mano", "data.operations=6", "data.modulus=11", "model.context=40"), set()
    trained = made.task.generate(np.random.default_rng(0), 200, 40, judged=False)
    for words, asked in [*answers(made), *answers(made, trained)]:
        begin = 0
        for place, answer in asked:
            length, expression = int(words[begin][1:]), words[begin + 1 : place]
            value, rest = read_prefix(expression, 11)
            assert (value, rest, len(expression), words[place]) == (int(answer), [], 2 * length + 1, "=")
            seen.add((length, *(word in ("+", "-", "*") for word in expression)))
            begin = place + 2
        assert {*words[begin:]} <= {"."}
    assert {length for length, *_ in seen} == {*range(1, 7)}
    assert sum(length == 3 for length, *_ in seen) == 5  # all trees of three operators
    assert {len(asked) for _, asked in answers(made)} == {2}  # 16 tokens each
    assert (made.list_difficulty()["operations"] == 6).all()


def test_sides_of_mano_share_the_other_operations_alike():
    made = corpus("mano", "data.operations=5").task
    body, _ = made.draw_expressions(np.random.default_rng(0), np.full(20000, 5))  # type: ignore[attr-defined]
    is_operator = (body >= 2) & (body < 5)
    # the left side ends where it has one number more than operators
    left = (np.cumsum(np.where(is_operator[:, 1:], 1, -1), 1) == -1).argmax(1) // 2
    counts = np.bincount(left, minlength=5)
    assert ((counts - 4000) ** 2 / 4000).sum() < 18.5  # chi-squared of 4 degrees: one seed in a thousand


def read_names(words: list[str]) -> list[tuple[str, ...]]:
    """The names in a row of letters: one ends with a letter of the second alphabet."""
    names: list[tuple[str, ...]] = [()]
    for word in words:
        names[-1] += (word,)
        if word.startswith("z"):
            names.append(())
    assert names[-1] == ()
    return names[:-1]


@pytest.mark.parametrize("judged", [True, False])
def test_depo_asks_who_stands_so_many_places_after(judged: bool):
    made = corpus("depo", "data.nodes=5", "data.questions=3", "data.hops=6", "data.longest=3", "model.context=64")
    examples = made.judged if judged else made.task.generate(np.random.default_rng(0), 99, 64, judged=False)
    sizes, hops_seen = set(), set()
    for (words, asked), levels in zip(answers(made, examples), examples.difficulty["hops"], strict=True):
        first = next(place for place, word in enumerate(words) if ">" in word)
        names = read_names(words[:first])
        after = dict(zip(names[::2], names[1::2], strict=True))
        sizes.add(len(after))
        asked, place, questions = dict(asked), first, 0
        while place < 64 and words[place] != ".":
            hops, sign = int(words[place][:-1]), words.index("=", place)
            (name,) = read_names(words[place + 1 : sign])
            for _ in range(hops):
                name = after[name]
            assert [asked.pop(sign + n) for n in range(len(name))] == [*name]
            assert (levels[sign : sign + len(name)] == hops).all()
            hops_seen.add(hops)
            place, questions = sign + 1 + len(name), questions + 1
        assert (asked, questions) == ({}, 3)
    assert sizes == ({5} if judged else {3, 4, 5})
    assert hops_seen == ({1, 2, 4, 6} if judged else {*range(1, 7)})


def test_capo_asks_for_facts_that_every_stream_and_seed_share():
    knobs = ["data.people=30", "data.attributes=3", "data.letters=4", "data.values=9", "data.examples=null"]
    made = corpus("capo", *knobs)
    assert len(made.judged.inputs) == 30
    facts: dict[tuple[str, ...], dict[str, str]] = {}
    for words, asked in answers(made):
        name, tags = tuple(words[:3]), words[3:8:2]
        assert {*tags} == {"#1", "#2", "#3"}
        assert [place for place, _ in asked] == [3, 5, 7]
        facts[name] = dict(zip(tags, (answer for _, answer in asked), strict=True))
        assert words[4:8:2] == [answer for _, answer in asked][:2]
    assert len(facts) == 30
    assert len({tuple(fact.values()) for fact in facts.values()}) > 20
    met = set()
    for seed in (0, 1):
        examples = made.task.generate(np.random.default_rng(seed), 40, 32, judged=False)
        for words, asked in answers(made, examples):
            assert len(asked) == 3 * 3  # three people; a fourth has no room
            for place, answer in asked:
                begin = place // 9 * 9
                assert facts[tuple(words[begin : begin + 3])][words[place]] == answer
                met.add(tuple(words[begin : begin + 3]))
    assert met == facts.keys()
    assert (corpus("capo", *knobs, "data.facts=1").judged.targets != made.judged.targets).any()


def read_graph(words: list[str]) -> tuple[list[tuple[str, str]], str]:
    """The edges of an example of brevo, and the node asked for."""
    end = words.index("?")
    return [*zip(words[:end:2], words[1:end:2], strict=True)], words[end + 1]


def list_orders(words: list[str]) -> set[tuple[str, ...]]:
    """All right answers, by trying every order of what the asked node depends on."""
    edges, asked = read_graph(words)
    needed = {asked}
    for _ in edges:
        needed |= {source for source, node in edges if node in needed}
    inside = [(source, node) for source, node in edges if node in needed]
    orders = itertools.permutations(sorted(needed))
    return {order for order in orders if all(order.index(source) < order.index(node) for source, node in inside)}


@pytest.mark.parametrize("judged", [True, False])
def test_brevo_accepts_every_order_that_respects_the_edges_and_no_other(judged: bool):
    made = corpus("brevo", "data.nodes=6", "data.edges=2", "model.context=32")
    examples = made.judged if judged else made.task.generate(np.random.default_rng(0), 60, 32, judged=False)
    names, learnt, sizes = made.task.symbols(), set(), set()
    for row, (words, asked) in enumerate(answers(made, examples)):
        question, right = words[: words.index("=") + 1], list_orders(words)
        edges, last = read_graph(words)
        assert [place for place, _ in asked] == [*range(len(question) - 1, len(question) + len(asked) - 1)]
        told = tuple(word for _, word in asked)
        assert told[:-1] in right
        assert told[-1] == ";"
        assert words[len(question) : len(question) + len(asked) - 1] == [*told[:-1]]
        learnt.add(len(right) > 1 and told[:-1] == min(right))
        sizes.add(len({node for edge in edges for node in edge}))
        for ends in zip(*edges, strict=True):
            assert max(map(ends.count, ends)) <= 2  # dependents of a source; sources of a node
        tokens = [names.index(word) for word in question]
        needed = sorted(told[:-1])
        tried = [*itertools.permutations(needed)][:120]
        for order in tried:
            answer = [*map(names.index, order), names.index(";")]
            assert made.task.is_right(tokens, answer) is (order in right)
        stop = names.index(";")
        good = [*map(names.index, told)]
        for bad in (good[:-1], [*good[:-1], good[0], stop], [*good[1:-1], stop], [stop], []):
            assert not made.task.is_right(tokens, bad)
        # to the nearest that depends on nothing
        depth, level = 0, {last}
        while level <= {node for _, node in edges}:
            depth, level = depth + 1, {source for source, node in edges if node in level}
        assert examples.difficulty["depth"][row] == depth
    assert learnt == {True, False}
    assert sizes == ({5, 6} if judged else {3, 4, 5, 6})


def test_a_written_answer_is_judged_as_a_whole(monkeypatch: pytest.MonkeyPatch):
    made = corpus("brevo")
    metric = WrittenAnswers(made)
    rights = [(row[row != IGNORED]).tolist() for row in made.judged.targets]
    script = [answer if number % 4 else answer[::-1] for number, answer in enumerate(rights)]
    begun = iter(range(len(script)))

    def write(decoder: Any, prompts: list[torch.Tensor], length: int, *, temperature: float):
        rows = [script[next(begun)] for _ in prompts]
        return iter(torch.tensor([row[min(place, len(row) - 1)] for row in rows]) for place in range(length))

    monkeypatch.setattr("gptlab.training.metric.written_answers.generate", write)
    monkeypatch.setattr("gptlab.training.metric.written_answers.MAX_ROWS", 16)
    decoder = build_decoder(recipe("", ("model.width=16", "model.heads=2", "model.context=32")), made.tokenizer.vocab)
    metric.update(decoder, 40)
    assert float(metric.compute()) == 0.75
    assert metric.difficulty["depth"].shape == metric.right.shape == (40,)
    with pytest.raises(Refused, match=r"say metric=\[answer_accuracy\]"):
        WrittenAnswers(corpus("copy"))


def test_a_run_on_brevo_tells_the_accuracy_of_whole_answers(tmp_path: Path):
    words = ["data=brevo", "tokenizer=symbols", "metric=[written_answers]", "data.nodes=3", "data.examples=30"]
    folder = finished(*tiny(tmp_path)[:-3], f"outputs={tmp_path}", *words, "steps=150", "model.lr=0.01")
    values = summary(folder)
    by_depth = {key: value for key, value in values.items() if key.startswith("val/accuracy_at_depth_")}
    assert {*by_depth} <= {"val/accuracy_at_depth_1", "val/accuracy_at_depth_2"}
    assert min(by_depth.values()) <= values["val/answer_accuracy"] <= max(by_depth.values())
    assert all("val/answer_accuracy" in row for row in rows(folder / "metrics.jsonl") if "val/loss" in row)


@pytest.mark.parametrize("task", ["copy", "s5", "parity"])
def test_a_curriculum_grows_the_length_with_the_step_and_leaves_validation_alone(task: str):
    knobs = ["data.length=12", "data.judged_length=null"]
    made, usual = corpus(task, *knobs, "data.curriculum=100"), corpus(task, *knobs)
    longest = {
        step: max((row != IGNORED).sum() for row in made.make_batch(3, step, 99, 32)[1])
        for step in (0, 30, 99, 100, 999)
    }
    assert longest == {0: 1, 30: 4, 99: 11, 100: 12, 999: 12}
    assert (made.judged.targets == usual.judged.targets).all()
    assert (made.make_batch(3, 100, 6, 32)[1] == usual.make_batch(3, 100, 6, 32)[1]).all()
    assert made.task.length == 12  # type: ignore[attr-defined]


def test_a_curriculum_of_none_leaves_the_hash_as_it_was():
    new = composed("data=s5")
    old = new.config | {"data": {key: value for key, value in new.config["data"].items() if key != "curriculum"}}
    assert Recipe(old).hash == new.hash != composed("data=s5", "data.length=9", "data.curriculum=9").hash


@pytest.mark.parametrize(("below", "count"), [(6, 6), (10, 2), (5000, 3)])
def test_distinct_numbers_are_distinct_and_all_as_likely(below: int, count: int):
    drawn = draw_distinct(np.random.default_rng(0), 3000, below, count)
    assert drawn.shape == (3000, count)
    assert all(len({*row}) == count for row in drawn.tolist())
    counts = np.bincount(drawn[:, 0], minlength=below)
    assert ((counts - 3000 / below) ** 2 / (3000 / below)).sum() < below + 5 * below**0.5 + 10


# -- runs


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_of_a_task_make_the_loss_of_the_batch(accumulate: int):
    made = corpus("copy")
    decoder = build_decoder(recipe("", ("model.width=16", "model.heads=2", "model.context=32")), made.tokenizer.vocab)
    batch = DataModule(made, seed=0, batch_size=8, context=32).load_batch(0)
    parts = batch.split(accumulate)
    assert len({part.weight for part in parts}) > 1  # they do not ask as much
    losses = [decoder(part.inputs, part.targets).loss.item() * part.weight for part in parts]
    assert sum(losses) / accumulate == pytest.approx(decoder(batch.inputs, batch.targets).loss.item(), rel=1e-5)


def test_a_run_tells_accuracy_and_accuracy_by_difficulty(tmp_path: Path):
    words = ["data=copy", "tokenizer=symbols", "metric=[answer_accuracy]", "data.length=8", "data.examples=30"]
    folder = finished(*tiny(tmp_path)[:-3], f"outputs={tmp_path}", *words, "accumulate=2", "sample.count=2")
    values: dict[str, Any] = summary(folder)
    by_length = {key: value for key, value in values.items() if key.startswith("val/accuracy_at_length_")}
    assert {*by_length} <= {f"val/accuracy_at_length_{length}" for length in range(1, 9)}
    assert min(by_length.values()) <= values["val/answer_accuracy"] <= max(by_length.values())
    assert "val/bits_per_byte" not in values
    assert values["val/loss_at_missing"] == "a synthetic task has no text before its examples"
    last = rows(folder / "metrics.jsonl")[-1]
    assert {key: last[key] for key in by_length} == by_length
    kept = np.load(folder / "evaluation.npz")
    assert (kept["targets_by_position"] > 0).sum() == np.unique(np.flatnonzero(kept["by_position"])).size
    assert len(rows(folder / "samples.jsonl")) > 0


def test_a_micro_batch_without_weight_is_the_text_as_before():
    batch = DataModule(corpus("parity"), seed=0, batch_size=6, context=32).load_batch(0)
    assert {part.weight for part in batch.split(3)} == {1.0}
    assert torch.equal(torch.cat([part.targets for part in batch.split(3)]), batch.targets)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("data=mqar tokenizer=byte", "tokenizer=byte reads text, and data=mqar has none; say tokenizer=symbols"),
        ("data=mqar metric=[bits_per_byte]", "bits_per_byte is of text, and data=mqar has none"),
        ("data=mqar metric=[answer_accuracy,word_accuracy]", "word_accuracy is of text"),
        ("tokenizer=symbols", "tokenizer=symbols is of synthetic tasks, and data=shakespeare is text"),
        ("data=copy model.context=32", "model.context=32 is shorter than the longest example of 48 tokens"),
        ("data=mqar data.vocab=8", "data.vocab=8 has not two halves of 4 pairs; try 16"),
        ("data=mano data.operations=0", "data.operations=0 is not positive; try 10"),
        ("data=mano data.operators=[+,+]", "data.operators=['+', '+'] are none, or one of them twice; try [+,-,*]"),
        ("data=depo data.letters=3", "data.letters=3 make 12 names, too few for data.nodes=20; try letters=40"),
        ("data=depo data.shortest=4", "data.shortest=4 is not in 1 .. data.longest=2; try shortest=1"),
        ("data=brevo data.nodes=2", "data.nodes=2 is below 3, or data.edges=4 below 1; try nodes=8 edges=4"),
        (
            "data=brevo metric=[answer_accuracy]",
            "data=brevo has several right answers to a question; say metric=[written",
        ),
        ("data=copy metric=[written_answers]", "data=copy has one right answer to a question; say metric=[answer_acc"),
        ("data=copy data.curriculum=0", "data.curriculum=0 is not positive; give steps, or null for none"),
        ("data=s5 data.curriculum=9", "data.curriculum=9 grows to data.length=null; say how long, as data.length=16"),
        ("data=capo data.values=1", "data.values=1 is below 2; try 8"),
        ("data=capo data.letters=1", "data.letters=1 is below 2, or data.facts=0 negative; try letters=32 facts=0"),
        ("data=parity data.length=0", "data.length=0 is not positive; null is the context"),
    ],
)
def test_what_does_not_go_with_a_task_is_refused_in_one_line(words: str, line: str):
    (problem,) = check_recipe(composed(*words.split()))
    assert line in problem
    assert "\n" not in problem


def test_a_prompt_is_read_as_symbols(tmp_path: Path):
    words = ["data=parity", "tokenizer=symbols", "metric=[answer_accuracy]"]
    done = train(*tiny(tmp_path)[:-3], f"outputs={tmp_path}", *words, "sample.prompt=nonsense")
    assert done.status == 2
    assert "'nonsense' is no symbol of this task; its symbols are 01, 10" in done.err
