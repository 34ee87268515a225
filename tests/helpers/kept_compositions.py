"""What hydra makes of the same choices, kept: it reads and merges thirty YAMLs, 0.1 s, for every composition.

Values on the command line are laid over what is kept, by hydra itself, and resolved anew. Processes that tests start
compose as users do.
"""

import os
import pickle
import re
from typing import Any

import pytest
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import Overrides

from gptlab.config.menu import CONF

CHOSEN = ("override_choices", "append_group_defaults", "deletions")
"""What of the command line decides which YAMLs are read."""
LEARNED = ("override_choices", "override_metadata", "deletions", "known_choices", "known_choices_per_group")
"""What the walk over the defaults writes into Overrides."""
VARIABLES = sorted({name for file in CONF.rglob("*.yaml") for name in re.findall(r"env\w*:(\w+)", file.read_text())})
"""Which environment variables decide between YAMLs: conf/ names them."""


def keep_compositions(patch: pytest.MonkeyPatch) -> None:
    """Let hydra's list of YAMLs, and what they make before any value is set, be made once for the same choices."""
    kept: dict[Any, bytes] = {}
    list_defaults = defaults_list._create_defaults_list
    merge = ConfigLoaderImpl._compose_config_from_defaults_list

    def list_once(repo: Any, config_name: Any, overrides: Overrides, prepend_hydra: bool, skip_missing: bool) -> Any:
        chosen = repr([getattr(overrides, name) for name in CHOSEN])
        key = _stamp(repo), config_name, chosen, prepend_hydra, skip_missing
        if key not in kept or _reads_elsewhere(repo):
            listed = list_defaults(repo, config_name, overrides, prepend_hydra, skip_missing)
            kept[key] = pickle.dumps((listed, [getattr(overrides, name) for name in LEARNED]))
            return listed
        listed, learned = pickle.loads(kept[key])
        for name, value in zip(LEARNED, learned, strict=True):
            setattr(overrides, name, value)
        return listed

    def merge_once(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> Any:
        key = _stamp(repo), repr(defaults)
        if key not in kept or _reads_elsewhere(repo):
            config = merge(self, defaults, repo)
            kept[key] = pickle.dumps(config)
            return config
        return pickle.loads(kept[key])

    patch.setattr(defaults_list, "_create_defaults_list", list_once)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once)


def _stamp(repo: Any) -> tuple[Any, ...]:
    """The folders that are read, which choices they have, and the variables that conf/ refers to."""
    groups = [(entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(CONF)]
    return (*(str(source) for source in repo.get_sources()), *groups, *map(os.environ.get, VARIABLES))


def _reads_elsewhere(repo: Any) -> bool:
    """True where YAMLs outside conf/ are read, which a test may have just written."""
    return any(source.scheme() == "file" and source.path != str(CONF) for source in repo.get_sources())
