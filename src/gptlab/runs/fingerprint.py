"""Code fingerprint of a run: a hash of the parsed sources in the import closure of its targets.

Parsed, so comments and layout do not count; the closure, so that adding a variant makes no other run stale.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from gptlab.config.recipe import OPTIONAL_SLOTS, SLOTS, Recipe, flatten
from gptlab.config.variant_packages import list_variant_packages
from gptlab.errors import Refused

ROOT = Path(__file__).parents[2]
ALWAYS = (
    "gptlab.training.task",
    "gptlab.training.evaluate",
    "gptlab.corpus.corpus",
    "gptlab.generation.generate",
    "gptlab.training.reference_texts",
)
"""What every run's numbers go through, whatever its choices."""


def fingerprint_recipe(recipe: Recipe) -> str:
    """Return the fingerprint of the code behind a recipe's numbers."""
    return fingerprint(list_modules(recipe))


def list_modules(recipe: Recipe) -> tuple[str, ...]:
    """Return the dotted names of the modules behind a recipe's numbers."""
    modules = [*ALWAYS]
    for slot in (*SLOTS, *OPTIONAL_SLOTS):
        for key, value in flatten(recipe.config.get(slot)).items():
            if key.endswith("_target_"):
                modules.append(str(value).rpartition(".")[0])
    return tuple(modules)


def fingerprint(modules: Iterable[str]) -> str:
    """Return eight hex digits for dotted module names and all that they import of gptlab and of registered packages.

    Raises ModuleNotFoundError for a module of these that is not there: to pass over it would let `reuse=same_code`
    take runs whose code has changed.
    """
    closure: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        path = find_source(name)
        # modules outside have no source here: their versions stand in run.json
        if _is_followed(name) and path is None:
            raise ModuleNotFoundError(f"fingerprint: there is no module {name} in {ROOT}", name=name)
        if path is not None:
            stamp = path.stat()
            closure[name], imports = _parse_source(path, name, stamp.st_mtime_ns, stamp.st_size)
            waiting += (imported for imported in imports if imported not in closure)
    # sorted: the order of imports is no part of what is computed
    text = "\n".join(f"{name} {closure[name]}" for name in sorted(closure))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _parse_source(path: Path, module: str, _mtime_ns: int, _size: int) -> tuple[str, list[str]]:
    """Return the hash of a parsed file and its imports, once a process for each state of the file.

    A study asks for every cell, and to parse all sources takes 0.2 s.
    """
    tree = parse_source(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), list_imports(tree, package)


def parse_source(path: Path) -> ast.Module:
    """Return a parsed file; refuse one that is no Python, as a package of one's own may hold."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes, another encoding
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise Refused(f"{path}{line}: no Python: {reason}; mend that line") from error


def _is_followed(module: str) -> bool:
    """Whether a dotted name lies in gptlab or in a registered package."""
    return module.startswith(("gptlab.", *(f"{package.name}." for package in list_variant_packages())))


def find_source(module: str) -> Path | None:
    """Return the file of a module of gptlab or of a registered package, None for anything else."""
    for package in list_variant_packages():
        if (file := package.find_source(module)) is not None:
            return file
    path = ROOT.joinpath(*module.split("."))
    candidates = [candidate for candidate in (path.with_suffix(".py"), path / "__init__.py") if candidate.exists()]
    return candidates[0] if module.startswith("gptlab") and candidates else None


def list_imports(tree: ast.Module, package: str = "") -> list[str]:
    """Return the modules that a parsed file names in its imports, those of gptlab and of registered packages.

    package  the one that the file is in, from which `from .other import thing` counts
    """
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            if _is_followed(f"{module}."):
                inside = [f"{module}.{alias.name}" for alias in node.names]
                names += [module, *(name for name in inside if find_source(name))]  # others: functions, classes
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if _is_followed(alias.name)]
    return names
