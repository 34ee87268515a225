"""The plan that goes into study.json, of a training study and of a measuring one."""

from dataclasses import asdict, replace
from pathlib import Path

from gptlab.ablation.cells import Variant, hash_question
from gptlab.ablation.plan import Plan
from gptlab.ablation.question import StudySpec
from gptlab.config.places import read_command
from gptlab.stats.study_plan import StudyPlan


def make_study_plan(plan: Plan) -> StudyPlan:
    """Return the plan of a training study as study.json holds it."""
    return replace(
        start_study_plan(plan.spec, plan.variants),
        command=training_command(read_command(), plan.spec.name),
        versus=plan.spec.study.versus(),
        baseline=next(iter(plan.spec.baselines.values())).name,
        settled={variant.key: variant.adjustments for variant in plan.variants},
        cells=[*plan.cells],
        seconds=dict(plan.run_seconds),
        jobs=plan.jobs,
        counts=dict(plan.counts),
        mismatch=plan.mismatch,
        project_flops=plan.spec.project_flops,
    )


def start_study_plan(spec: StudySpec, variants: list[Variant]) -> StudyPlan:
    """Return the keys of study.json that training and measuring studies share."""
    options = asdict(spec.options)
    arms = {variant.key: variant.overrides for variant in variants}
    arm_values = {variant.name: variant.values for variant in variants}
    return StudyPlan(
        **{
            # most knobs are fields under the same name; the keys below are said otherwise than they were asked
            **options,
            "study": spec.name,
            "seeds": spec.options.blocks,
            "looks": [] if spec.study.together else spec.options.looks,
            "kind": spec.options.kind,
            "alpha": spec.alpha,
            "variance": choose_variance(spec),
            "jobs": 1,  # how many at once: the option may be `auto`
            "asks": hash_question(spec.axes, spec.base, spec.options),
            "command": read_command(),
            "cwd": str(Path.cwd()),
            "axes": spec.axes,
            "base": spec.shared,
            "arms": arms,
            "arm_values": arm_values,
            "notes": spec.notes,
        }
    )


def choose_variance(spec: StudySpec) -> str:
    """Return the kind of variance that was asked for, or each arm's own where the arms are one training, changed."""
    is_own = spec.options.variance == "auto" and spec.study.shares_training
    return "own" if is_own else spec.options.variance


def training_command(words: list[str], name: str) -> list[str]:
    """Return the command for the training runs alone, where a measuring study asked for them (study.follow_up)."""
    if not any(word.startswith("study.follow_up=") for word in words):
        return words
    return [*(word for word in words if not word.startswith(("study=", "study.", "name="))), f"name={name}"]
