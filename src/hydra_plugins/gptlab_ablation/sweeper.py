"""Hydra's door to the ablation engine: it splits the command line into axes and the rest, and lends the launcher.

Hydra runs this file at every start, also of train.py: nothing heavy at its top, and no `from __future__ import
annotations`, which breaks a dataclass here (the module is not in sys.modules yet).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class AblationSweeperConf:
    """hydra/sweeper=ablation."""

    _target_: str = "hydra_plugins.gptlab_ablation.sweeper.AblationSweeper"
    params: dict[str, Any] | None = None
    """Axes by key, as hydra's own sweeper takes them: for a study that lives in a YAML."""


ConfigStore.instance().store(group="hydra/sweeper", name="ablation", node=AblationSweeperConf, provider="gptlab")


class AblationSweeper(Sweeper):
    """Plans, launches what is missing, compares."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config = hydra_context, config
        self.loader, self.hydra = hydra_context.config_loader, config.hydra
        self.launches: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study of a command line; its verdicts are the exit status, which hydra would drop."""
        from gptlab.ablation.engine import run_study
        from gptlab.compose import keep_searchpath
        from gptlab.config.command_line import describe_overruled_words
        from gptlab.errors import Refused

        parser = OverridesParser.create(config_loader=self.loader)
        axes: dict[str, list[str]] = {}
        fixed: dict[str, str] = {}
        keep_searchpath(self.hydra)
        refuse_repeated_axes(parser.parse_overrides(arguments))
        for override in parser.parse_overrides([*self.params, *arguments]):
            key = override.get_key_element()
            axes.pop(key, None)  # the last word counts
            fixed.pop(key, None)
            if override.is_discrete_sweep():
                axes[key] = [*override.sweep_string_iterator()]
                if not axes[key]:  # a glob that fits no choice
                    line = override.input_line
                    raise Refused(f"{line} fits nothing; python -m gptlab slots {key} lists what there is")
            else:
                fixed[key] = str(override.input_line)
        if status := run_study(axes, fixed, self.launch, self.jobs(), remarks=describe_overruled_words(arguments)):
            sys.exit(status)

    def launch(self, cells: Sequence[str], jobs: int) -> None:
        """Launch cells, by the paths of their files; their outcomes are events in the study's folder.

        A launcher that starts all at once gets as many as there are jobs.
        """
        from gptlab.config.typecheck import quote_for_hydra

        overrides = [[f"cell={quote_for_hydra(path)}"] for path in cells]
        size = jobs if self.name == "submitit_local" else len(overrides)
        for start in range(0, len(overrides), size):
            self.launches.launch(overrides[start : start + size], initial_job_idx=start)

    @property
    def name(self) -> str:
        """The launcher's choice."""
        return str(self.hydra.runtime.choices["hydra/launcher"])

    def jobs(self) -> int | None:
        """How many cells the launcher runs on this machine at once; None leaves it to `jobs`, with the default one."""
        from gptlab.runs.machine import count_cores

        cores = count_cores()
        launcher: Any = OmegaConf.to_container(self.hydra.launcher)
        if self.name == "joblib":
            n_jobs = launcher.get("n_jobs") or -1
            # joblib's words: -1 is all cores, -2 all but one
            return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)
        if self.name == "submitit_local":
            return max(1, cores // (launcher.get("cpus_per_task") or 1))
        if self.name == "ray":
            return int(launcher.get("ray", {}).get("init", {}).get("num_cpus") or cores)
        return None if self.name == "basic" else 1


def refuse_repeated_axes(overrides: Sequence[Override]) -> None:
    """Refuse a key whose several values, an axis, a later word of that key would drop."""
    from gptlab.errors import Refused

    lines: dict[str, list[str]] = {}
    for override in overrides:
        lines.setdefault(override.get_key_element(), []).append(str(override.input_line))
    last = {override.get_key_element(): override for override in overrides}
    for override in overrides:
        key = override.get_key_element()
        if override.is_discrete_sweep() and override is not last[key]:
            raise Refused(f"{' '.join(lines[key])}: {key} is given {len(lines[key])} times; give it once")
