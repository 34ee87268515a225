"""What hydra makes of the same choices, kept: it reads and merges thirty YAMLs, 0.1 s, for every composition.

Values on the command line are laid over what is kept, by hydra itself, and resolved anew. YAMLs are parsed once, and
words of the command line too. A Python that a test starts anew composes as users do.
"""

import os
import pickle
import re
from contextlib import suppress
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import Overrides
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins

from gptlab.config.menu import CONF

CHOSEN = ("override_choices", "append_group_defaults", "deletions")
"""What of the command line decides which YAMLs are read."""
LEARNED = ("override_choices", "override_metadata", "deletions", "known_choices", "known_choices_per_group")
"""What the walk over the defaults writes into Overrides."""
VARIABLES = sorted({name for file in CONF.rglob("*.yaml") for name in re.findall(r"env\w*:(\w+)", file.read_text())})
"""Which environment variables decide between YAMLs: conf/ names them."""


def keep_compositions(patch: Any) -> None:
    """Let hydra's list of YAMLs, and what they make before any value is set, be made once for the same choices.

    patch    what sets an attribute by its method `setattr`: pytest's monkeypatch, or a stand-in
    """
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
            # a plugin's class, such as a launcher's config, is another one where hydra has read the plugins again
            with suppress(pickle.PicklingError):
                kept[key] = pickle.dumps(config)
            return config
        return pickle.loads(kept[key])

    patch.setattr(defaults_list, "_create_defaults_list", list_once)
    patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once)
    keep_yamls(patch)
    keep_words(patch)
    skip_first_composition(patch)


def keep_yamls(patch: Any) -> None:
    """Let a YAML be parsed once, until the file is another."""
    kept: dict[Any, bytes] = {}
    Plugins.instance()  # which registers the sources
    source = SourcesRegistry.instance().resolve("file")
    load = source.load_config

    def load_once(self: Any, config_path: str) -> Any:
        file = os.path.join(self.path, self._normalize_file_name(config_path))
        if not os.path.exists(file):
            return load(self, config_path)
        status = os.stat(file)
        key = file, self.provider, status.st_ino, status.st_mtime_ns, status.st_size
        if key not in kept:
            kept[key] = pickle.dumps(load(self, config_path))
        return pickle.loads(kept[key])

    patch.setattr(source, "load_config", load_once)


def keep_words(patch: Any) -> None:
    """Let a word of the command line be parsed once."""
    kept: dict[Any, bytes] = {}
    parse = OverridesParser.parse_rule

    def parse_once(self: OverridesParser, s: str, rule_name: str) -> Any:
        key = s, rule_name
        if key not in kept:
            kept[key] = pickle.dumps(parse(self, s, rule_name))
        return pickle.loads(kept[key])

    patch.setattr(OverridesParser, "parse_rule", parse_once)


def skip_first_composition(patch: Any) -> None:
    """Spare train.py the composition by which hydra asks for hydra.mode, unless a word or a YAML of its own sets it."""
    ask = Hydra.get_mode

    def ask_seldom(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        is_plain = config_name == "train" and not any("hydra" in word or "experiment" in word for word in overrides)
        elsewhere = [
            part.path for part in self.config_loader.get_search_path().get_path() if part.provider == "command-line"
        ]
        return None if is_plain and not elsewhere else ask(self, config_name, overrides)

    patch.setattr(Hydra, "get_mode", ask_seldom)


def _stamp(repo: Any) -> tuple[Any, ...]:
    """The folders that are read, which choices they have, and the variables that conf/ refers to."""
    groups = [(entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(CONF)]
    return (*(str(source) for source in repo.get_sources()), *groups, *map(os.environ.get, VARIABLES))


def _reads_elsewhere(repo: Any) -> bool:
    """True where YAMLs outside conf/ are read, which a test may have just written."""
    return any(source.scheme() == "file" and source.path != str(CONF) for source in repo.get_sources())
