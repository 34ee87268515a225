"""Tasks of a study: every arm is run in each, and judged in each by itself."""

from collections.abc import Iterable
from dataclasses import replace

from gptlab.ablation import design
from gptlab.ablation.arms.selection import refuse_study_knobs
from gptlab.ablation.options import StudyOptions
from gptlab.errors import Refused


def read_tasks(options: StudyOptions, axes: dict[str, list[str]]) -> StudyOptions:
    """Return the options with their tasks read from a file, or taken from an axis over data.

    Such an axis beside another one is no axis any more: arms on different data have no verdict in common.
    """
    tasks = options.tasks
    if isinstance(tasks, str):
        tasks = design.read_named_overrides(tasks, "tasks")
    if tasks is None and options.design == "grid" and not options.ladder and len(axes) > 1 and "data" in axes:
        # taken out of the axes: from here on it is no axis
        tasks = {value: [f"data={value}"] for value in axes.pop("data")}
    if not tasks:
        return replace(options, tasks=None)
    refuse_study_knobs(tasks)
    for word, given in {
        f"study={options.kind}": options.kind != "train",
        "design=search": options.design == "search",
        f"ladder=[{','.join(options.ladder)}]": bool(options.ladder),  # sizes and tasks are both judged apart
    }.items():
        if given:
            raise Refused(f"tasks: {', '.join(tasks)} do not go with {word}; leave one of them out")
    return replace(options, tasks=tasks)


def cross_with_tasks(arms: list[design.ArmSpec], options: StudyOptions) -> list[design.ArmSpec]:
    """Return every arm in every task, which is its size; what an arm says itself goes before what the task says."""
    if not isinstance(options.tasks, dict):
        return arms
    # the task's words first, since the last word on a key wins
    crossed = []
    for task, words in options.tasks.items():
        crossed += [replace(arm, words=[*words, *arm.words], size=task) for arm in arms]
    return crossed


def list_words_of_size(size: str, options: StudyOptions) -> list[str]:
    """Return the overrides that make a size of a study: a model's name, or all that a task says."""
    if isinstance(options.tasks, dict):
        return options.tasks[size]
    return [f"model={size}"] if size else []


def describe_overruled_by_tasks(fixed: Iterable[str], options: StudyOptions) -> list[str]:
    """Return a line for each word of the command line that does nothing in some tasks, which say something else."""
    if not isinstance(options.tasks, dict):
        return []
    lines = []
    for typed in fixed:
        key = typed.lstrip("+").partition("=")[0]
        overruling: dict[str, list[str]] = {}
        for task, words in options.tasks.items():
            own = [word for word in words if word.lstrip("+").partition("=")[0] == key]
            if own and own[-1].lstrip("+") != typed.lstrip("+"):
                overruling.setdefault(own[-1], []).append(task)
        for word, tasks in overruling.items():
            lines.append(f"{typed} does nothing in {', '.join(tasks)}: {word} of the task stands behind it")
    return lines
