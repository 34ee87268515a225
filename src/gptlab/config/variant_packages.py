"""Packages of variants that are no part of gptlab: announced by an entry point, or named in GPTLAB_VARIANTS.

    [project.entry-points."gptlab.variants"]
    mypackage = "mypackage"

Beside its code such a package holds conf/<slot>/<choice>.yaml, as gptlab does. Its conf/ joins hydra's search path and
configs may name its classes; those of other packages they may not. Nothing of it is imported before it is chosen.
"""

import os
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from gptlab.config.places import CONF
from gptlab.errors import Refused

GROUP = "gptlab.variants"
VARIABLE = "GPTLAB_VARIANTS"
"""Environment variable: dotted names with commas between, for packages on PYTHONPATH that nothing has installed."""


@dataclass(frozen=True)
class VariantPackage:
    """A package by its dotted name, the folder of its code, and the YAMLs below its conf/ as slot/choice.

    remedy  what to do where something is wrong with it
    """

    name: str
    folder: Path
    choices: tuple[str, ...]
    remedy: str

    @property
    def conf(self) -> Path:
        """Its folder of slots."""
        return self.folder / "conf"

    def find_source(self, module: str) -> Path | None:
        """Return the file of one of its modules, None for a module that is not its own."""
        if module != self.name and not module.startswith(f"{self.name}."):
            return None
        # without importing it: the code fingerprint reads sources of parts that nobody has chosen
        path = self.folder.joinpath(*module.removeprefix(self.name).split(".")[1:])
        files = (path.with_suffix(".py"), path / "__init__.py")
        return next((file for file in files if file.is_file()), None)


def list_variant_packages() -> tuple[VariantPackage, ...]:
    """Return all registered packages; refuse those that are not there, and choices that two of them have."""
    return _find_packages(os.environ.get(VARIABLE, ""))


def register_searched(folders: list[str]) -> None:
    """Register mypackage of each pkg://mypackage.conf, for this process and those that it starts, or refuse it."""
    # by way of the environment, since launchers start processes that must know it too
    names = [known for known in os.environ.get(VARIABLE, "").split(",") if known]
    for folder in folders:
        name = folder.removeprefix("pkg://").removesuffix(".conf")
        if folder == f"pkg://{name}.conf" and name not in names:
            names.append(name)
    if names:
        os.environ[VARIABLE] = ",".join(names)
        list_variant_packages()  # here, and not once for each slot


@cache
def _find_packages(variable: str) -> tuple[VariantPackage, ...]:
    # installed ones first: their remedy is to reinstall, not to mend a path
    announced = {entry.value.partition(":")[0]: entry.dist for entry in metadata.entry_points(group=GROUP)}
    remedies = {name: f"reinstall {dist.name if dist else name}, or uninstall it" for name, dist in announced.items()}
    for name in filter(None, (word.strip() for word in variable.split(","))):
        remedies.setdefault(name, f"mend {VARIABLE}={variable}, or PYTHONPATH")
    packages = tuple(_find_package(name, remedy) for name, remedy in remedies.items())
    _refuse_shared_choices(packages)
    return packages


def _find_package(name: str, remedy: str) -> VariantPackage:
    """Return a package of variants by its dotted name, or refuse it with its remedy."""
    try:
        spec = util.find_spec(name)
    except Exception as error:  # of a dotted name the parent is imported, which may fail in any way
        raise Refused(f"{GROUP}: {name} cannot be imported: {_in_one_line(error)}; {remedy}") from error
    folders = [*(spec.submodule_search_locations or ())] if spec else []
    if not folders:
        raise Refused(f"{GROUP}: there is no package {name}; {remedy}")
    # a namespace package may lie in several folders
    folder = next((Path(path) for path in folders if (Path(path) / "conf").is_dir()), None)
    if folder is None:
        raise Refused(f"{GROUP}: {name} has no folder conf beside its code, with conf/<slot>/<choice>.yaml; {remedy}")
    choices = (f"{file.parent.name}/{file.stem}" for file in sorted((folder / "conf").glob("*/*.yaml")))
    return VariantPackage(name, folder, tuple(choices), remedy)


def _refuse_shared_choices(packages: tuple[VariantPackage, ...]) -> None:
    """Refuse a choice of one name in two places, of which hydra would take the first in silence."""
    owners: dict[str, str] = {}
    for package in packages:
        for choice in package.choices:
            owner = "gptlab" if (CONF / f"{choice}.yaml").exists() else owners.get(choice)
            if owner:
                words = choice.replace("/", "=")
                raise Refused(f"{words} is a choice of {owner} and of {package.name}; rename one, or uninstall one")
            owners[choice] = package.name


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
