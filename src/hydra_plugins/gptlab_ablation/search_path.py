"""The conf/ of every registered package of variants, on hydra's search path after gptlab's own."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from gptlab.config.variant_packages import list_variant_packages


class VariantsSearchPath(SearchPathPlugin):
    """Adds them wherever hydra composes: in the two programs, and in gptlab's own compositions."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for package in list_variant_packages():
            search_path.append(provider=package.name, path=f"file://{package.conf}")
