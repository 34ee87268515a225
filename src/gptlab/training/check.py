"""Checks of a recipe before any compute: each part is asked, and the decoder is built once without memory.

Plain keys come first, then what imports torch, then what imports torchmetrics and lightning: a slip in a key is told
at once. A part refuses by a ValueError of one line, which these checks collect.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.factory import check_node, factory, list_knobs, locate
from gptlab.config.recipe import LISTS, SLOTS, Recipe, check_settings
from gptlab.config.typecheck import name_experiment
from gptlab.corpus.data import StreamedData
from gptlab.model.compile_policy import should_compile_at_start
from gptlab.runs import tracker as tracking
from gptlab.runs.record import RunFolder
from gptlab.training.branching.trunk import build_schedule, check_branches
from gptlab.training.build import build_on_meta
from gptlab.training.cuda_graph.check import refuse_gradient_hooks, refuse_uncapturable
from gptlab.weights.pretrained import load_source

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gptlab.model.decoder import Decoder


def check_recipe(recipe: Recipe) -> list[str]:
    """Return all that is wrong with a recipe, one line each, before any compute; plain keys first, without torch."""
    problems = check_settings(recipe.config) or _check_files(recipe)
    if not problems:
        problems = _collect_refusal(lambda: tracking.choose_mode(recipe.settings.tracking))
        lines = [line for slot in SLOTS if slot not in LISTS for line in check_node(recipe.config.get(slot), slot)]
        problems += [name_experiment(line, recipe.choices) for line in lines]
        problems += _check_list(recipe, "change")
    # metrics and callbacks last: they import torchmetrics and lightning, for which other refusals need not wait
    checks = (_check_build, check_branches, _check_batch_division, _check_metrics, _check_task, _check_callbacks)
    for check in checks:
        # none but the first to refuse: later ones take for granted what earlier ones have checked
        problems = problems or check(recipe)
    return problems


def _check_list(recipe: Recipe, slot: str) -> list[str]:
    return [line for name, node in recipe.config[slot].items() for line in check_node(node, f"{slot}.{name}")]


def _check_files(recipe: Recipe) -> list[str]:
    """Check that the files behind data.path and tokenizer.path are there, for which no other part is imported."""
    problems = []
    # the commonest mistake, told without torch: 0.45 s instead of 2
    for slot in ("data", "tokenizer"):
        node = recipe.config.get(slot)
        if isinstance(node, dict) and node.get("path") and not list(check_node(node, slot)):
            target: Any = locate(node["_target_"], slot)
            problems += _collect_refusal(partial(target.list_files, {key: node[key] for key in list_knobs(node)}))
    return problems


def _check_build(recipe: Recipe) -> list[str]:
    """Check that the decoder can be built and trained: it is built without memory, and so is what trains it."""
    return _collect_refusal(partial(_build_all, recipe))


def _build_all(recipe: Recipe) -> None:
    """Build the parts of a run that are neither data nor metrics, for their refusals."""
    import torch

    _check_starting_weights(recipe)
    # any vocabulary: no refusal depends on it, and reading the text takes longer than all checks
    decoder = build_on_meta(recipe, vocab=64)
    if recipe.config["data"].get("mask_documents"):
        decoder.refuse_documents()
    for slot in ("init", "data"):
        factory(recipe.config[slot], slot)()
    build_schedule(recipe)
    trainer = factory(recipe.config["trainer"], "trainer")()
    should_compile_at_start(recipe.settings.compile, {"gpu": "cuda"}.get(trainer.accelerator, "cpu"))
    optimizer = factory(recipe.config["optimizer"], "optimizer")
    # an optimizer checks its knobs when it is made, of which one small matrix is enough
    small_optimizer = optimizer([("weight", torch.nn.Parameter(torch.zeros(2, 2)))])
    if decoder.scaling is not None:
        _check_scaling(recipe, decoder, small_optimizer)
    _check_device_limits(recipe, decoder, optimizer.target)


def _check_starting_weights(recipe: Recipe) -> None:
    """Check that the decoder takes the weights that it is to start from; a resumed run has its own."""
    resume = recipe.config["resume"]
    if resume not in (None, "auto") and RunFolder(Path(resume)).has_checkpoint():
        return  # the file that it began from may be gone
    if node := recipe.config.get("pretrained"):
        checkpoint = load_source(node)
        # a checkpoint knows the names of a decoder without changes
        plain = replace(recipe, config={**recipe.config, "change": {}})
        checkpoint.check(build_on_meta(plain, checkpoint.vocab()))


def _check_scaling(recipe: Recipe, decoder: "Decoder", optimizer: "Optimizer") -> None:
    """Refuse what does not go with a parametrization that scales: its weights, first values or steps have no rule."""
    from torch import nn

    from gptlab.training.optimizer import find_update

    assert decoder.scaling is not None
    chosen = recipe.choices.get("parametrization")
    if recipe.config.get("pretrained"):
        raise ValueError(
            f"parametrization={chosen} sets first values, which pretrained={recipe.choices.get('pretrained')} brings; "
            "say parametrization=standard"
        )
    for group in optimizer.param_groups:
        try:
            update = find_update(optimizer, group)
        except ValueError as error:
            raise ValueError(
                f"parametrization={chosen} does not go with optimizer={recipe.choices.get('optimizer')}, whose steps "
                "have no rule over width; say parametrization=standard, or optimizer=adamw"
            ) from error
        for name, _ in decoder.trainable_parameters():
            decoder.scaling.find_step_factors(name, update)
    init = factory(recipe.config["init"], "init")()
    for path, module in decoder.named_modules():
        if isinstance(module, nn.Embedding):
            decoder.scaling.find_init_factor(f"{path}.weight", module, init)


def _check_device_limits(recipe: Recipe, decoder: "Decoder", optimizer: Any) -> None:
    """Refuse what cannot work on shares of a weight (fsdp), on weights that are fixed, or in a CUDA graph.

    optimizer  the class
    """
    from gptlab.model.softmax_parts import refuse_fixed_weights

    strategy = recipe.config["trainer"]["strategy"]
    clips = any(getattr(part, "qk_clip", None) for part in decoder.modules())
    if clips and strategy == "fsdp":
        raise ValueError("attention.qk_clip needs whole matrices, which trainer=fsdp cuts up; use trainer=ddp")
    if clips:
        refuse_fixed_weights(decoder)
    if recipe.config["trainer"].get("cuda_graph"):
        refuse_uncapturable(recipe, decoder, optimizer)
    for name, node in recipe.config["change"].items():
        refuse_shares(f"change=[{name}]", factory(node, f"change.{name}").target, strategy)
    refuse_shares(f"optimizer={recipe.choices.get('optimizer', optimizer.__name__)}", optimizer, strategy)


def _check_batch_division(recipe: Recipe) -> list[str]:
    """Check that every process has as many rows of each micro-batch as the others."""
    settings, trainer = recipe.settings, recipe.config["trainer"]
    processes = trainer["devices"] * trainer["nodes"]
    shares = processes * settings.accumulate
    if settings.batch_size % shares == 0:
        return []
    problem = f"batch_size={settings.batch_size} does not divide among {processes} processes x accumulate"
    return [f"{problem}={settings.accumulate}; try batch_size={-(-settings.batch_size // shares) * shares}"]


def _check_metrics(recipe: Recipe) -> list[str]:
    from gptlab.training.metric import check_task_files  # late: torchmetrics takes a second

    problems = _check_list(recipe, "metric")
    return problems or _collect_refusal(lambda: check_task_files(recipe.config["metric"]))


def _check_task(recipe: Recipe) -> list[str]:
    """Check that what reads text is not asked of a synthetic task, nor the other way round."""
    config, choices = recipe.config, recipe.choices
    data, tokenizer = (factory(config[slot], slot) for slot in ("data", "tokenizer"))
    names = {slot: f"{slot}={choices.get(slot)}" for slot in ("data", "tokenizer")}
    reads_symbols = getattr(tokenizer.target, "for_tasks", False)
    if not hasattr(data.target, "symbols"):
        if reads_symbols:
            # byte reads every text, and learns from none, which a stream could not give whole
            return [f"{names['tokenizer']} is of synthetic tasks, and {names['data']} is text; say tokenizer=byte"]
        is_streamed = isinstance(data.target, type) and issubclass(data.target, StreamedData)
        if is_streamed and tokenizer.target.learns:  # type: ignore[attr-defined]
            problem = f"{names['tokenizer']} learns from the whole text, which {names['data']} has not read"
            return [f"{problem}; say tokenizer=gpt2 or tokenizer=byte"]
        return []
    if not reads_symbols:
        return [f"{names['tokenizer']} reads text, and {names['data']} has none; say tokenizer=symbols"]
    many = data.target.has_many_answers  # type: ignore[attr-defined]
    fitting = "written_answers" if many else "answer_accuracy"
    for name, node in config["metric"].items():
        metric: Any = locate(node["_target_"], "metric")
        if getattr(metric, "needs_text", False):
            return [f"metric: {name} is of text, and {names['data']} has none; say metric=[{fitting}]"]
        writes = getattr(metric, "writes_answers", False)
        if name in ("answer_accuracy", "written_answers") and writes != many:
            count = "several right answers" if many else "one right answer"
            return [f"{names['data']} has {count} to a question; say metric=[{fitting}]"]
    return _collect_refusal(lambda: data().refuse_short_context(recipe.settings.model.context))


def _check_callbacks(recipe: Recipe) -> list[str]:
    problems = _check_list(recipe, "callback")

    def build_all() -> None:
        averagers = []
        for name, node in recipe.config["callback"].items():
            callback = factory(node, f"callback.{name}")
            refuse_shares(f"callback=[{name}]", callback.target, recipe.config["trainer"]["strategy"])
            if recipe.config["trainer"].get("cuda_graph"):
                refuse_gradient_hooks(name, callback.target)
            if hasattr(callback(), "average_weights"):
                averagers.append(f"callback=[{name}]")
        refuse_several_averages(recipe, averagers)

    return problems or _collect_refusal(build_all)


def refuse_several_averages(recipe: Recipe, averagers: list[str]) -> None:
    """Raise ValueError where two parts would each put its average in place of the weights: only the last would stay."""
    optimizer = factory(recipe.config["optimizer"], "optimizer").target
    if hasattr(optimizer, "average_weights"):
        averagers = [f"optimizer={recipe.choices.get('optimizer', optimizer.__name__)}", *averagers]
    if len(averagers) > 1:
        raise ValueError(f"{' and '.join(averagers)} each average the weights, and one average is kept; leave one")


def refuse_shares(name: str, target: object, strategy: str) -> None:
    """Raise ValueError for what cannot work on shares of a weight, where the trainer makes them."""
    if getattr(target, "needs_whole_matrices", False) and strategy == "fsdp":
        raise ValueError(f"{name} needs whole matrices, which trainer=fsdp cuts up; use trainer=ddp")


def _collect_refusal(act: Callable[[], Any]) -> list[str]:
    """Return the line with which `act` refuses, if it does."""
    try:
        act()
    except ValueError as error:
        return [str(error).splitlines()[0]]
    return []
