"""Packages of variants whose code does not import, as far as that is seen without running it.

A package that is announced and whose choices nobody uses must not be imported: what it does at its import would reach
the numbers of a run that is none of its own. So its sources are read: no Python, modules that are not there, names that
a module of gptlab no longer has, a bare `raise`.
"""

import ast
import os
import re
import sys
from importlib import util
from pathlib import Path

from gptlab.config.variant_packages import GROUP, VariantPackage, list_variant_packages

GPTLAB = Path(__file__).parents[1]
_printed: set[str] = set()


def warn_of_broken_packages() -> None:
    """Print a line on stderr for each registered package that does not import, once a process."""
    asks_for_completion = {"-sc", "--shell-completion"} & {*sys.argv}
    if asks_for_completion or os.environ.get("LOCAL_RANK", "0") != "0":  # the other processes of the same run
        return
    for package in list_variant_packages():
        fault = find_fault(package)
        line = f"{GROUP}: {package.name} does not import: {fault}; {package.remedy}"
        if fault and line not in _printed:
            _printed.add(line)
            print(line, file=sys.stderr)


def find_fault(package: VariantPackage) -> str | None:
    """Return why some module behind a package's choices does not import, or None where nothing is seen."""
    seen: set[str] = set()
    waiting = [package.name, *_list_target_modules(package)]
    while waiting:
        module = waiting.pop(0)
        if module in seen:
            continue
        seen.add(module)
        path = _find_file(package, module)
        if path is None:
            return f"no module named {module}"
        if path.is_dir():  # a folder without __init__.py
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:  # ValueError: null bytes, another encoding
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            return f"{path}{line}: {error.msg if isinstance(error, SyntaxError) else error}"
        parent = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for statement in tree.body:  # those in `try` or `if` may be meant to fail
            if isinstance(statement, ast.Raise):
                return f"{path}, line {statement.lineno} raises"
            modules = _list_imported(statement, parent)
            if missing := _find_missing(package, modules):
                return f"{path}, line {statement.lineno}: {missing}"
            waiting += [name for name in modules if _is_in(name, package.name)]
    return None


def _list_target_modules(package: VariantPackage) -> list[str]:
    """Return the package's own modules that its YAMLs name."""
    modules = []
    for choice in package.choices:
        text = (package.conf / f"{choice}.yaml").read_text(encoding="utf-8", errors="replace")
        for target in re.findall(r"_target_: *[\"']?([\w.]+)", text):
            if _is_in(target, package.name):
                modules.append(target.rpartition(".")[0])
    return modules


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _find_file(package: VariantPackage, module: str) -> Path | None:
    """Return the file of a module of the package, or its folder; None if it is not there."""
    folder = package.folder.joinpath(*module.removeprefix(package.name).split(".")[1:])
    return package.find_source(module) or (folder if folder.is_dir() else None)


def _list_imported(statement: ast.stmt, parent: str) -> dict[str, list[str]]:
    """Return the modules that a statement imports, each with the names that are taken from it."""
    if isinstance(statement, ast.Import):
        return {alias.name: [] for alias in statement.names}
    if not isinstance(statement, ast.ImportFrom):
        return {}
    parents = parent.split(".")[: len(parent.split(".")) - statement.level + 1] if statement.level else []
    module = ".".join([*parents, *([statement.module] if statement.module else [])])
    return {module: [alias.name for alias in statement.names]}


def _find_missing(package: VariantPackage, modules: dict[str, list[str]]) -> str | None:
    """Return what of some modules is not there: the module, or a name of one of gptlab's."""
    for module, names in modules.items():
        if _is_in(module, package.name):
            is_there = _find_file(package, module) is not None
        elif _is_in(module, "gptlab"):
            path = GPTLAB.joinpath(*module.split(".")[1:])
            file = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
            is_there = file is not None
            if file is not None:
                known = _list_names(file)
                gone = [name for name in names if name not in known and not _is_module(path / name)]
                if gone and not {"*", "__getattr__"} & {*names, *known}:
                    return f"{module} has no {gone[0]}"
        else:
            is_there = util.find_spec(module.partition(".")[0]) is not None
        if not is_there:
            return f"no module named {module}"
    return None


def _is_module(path: Path) -> bool:
    return path.is_dir() or path.with_suffix(".py").is_file()


def _list_names(file: Path) -> set[str]:
    """Return all names that a file binds anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names
