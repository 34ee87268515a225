"""The documents are true: the example variant is a whole variant, the menu is conf/, links lead somewhere."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from gptlab.__main__ import app
from gptlab.config.menu import list_choices
from gptlab.config.recipe import flatten

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The first code in a language of the guide to variants."""
    found = re.search(rf"```{language}\n(.*?)```", EXTENDING, re.S)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the house with the guide's two files in it."""
    copy = tmp_path_factory.mktemp("house")
    for name in ("conf", "src", "tests"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    (copy / "src/gptlab/model/position/decay.py").write_text(block("python"))
    (copy / "conf/position/decay.yaml").write_text(block("yaml"))
    return copy


@pytest.mark.slow
def test_the_example_variant_keeps_every_law(house: Path) -> None:
    laws = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/model/test_decoder_laws.py",
        "-k",
        "decay",
        "-v",
    ]
    environment = {"PYTHONPATH": str(house / "src"), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(laws, cwd=house, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 5  # type: ignore[index]


@pytest.mark.thorough
def test_the_example_variant_is_listed_and_refuses_bad_values(house: Path) -> None:
    def train(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": str(house / "src"), "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "train.py", *arguments]
        return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, timeout=60)

    assert re.search(r"^position: .*\bdecay\b", train("--help").stdout, re.M)
    refused = train("position=decay", "position.rate=fast")
    assert (refused.returncode, refused.stderr) == (2, "error: position.rate='fast' is not a number\n")


def committed() -> dict[str, set[str]]:
    """The choices of conf/ that belong to the project, as git knows them; a variant of one's own need not be there."""
    git = shutil.which("git")
    listed = subprocess.run([git, "ls-files", "conf"], cwd=ROOT, capture_output=True, text=True).stdout if git else ""
    files = [Path(line) for line in listed.splitlines()] or [f.relative_to(ROOT) for f in ROOT.glob("conf/*/*.yaml")]
    slots = {file.parent.name for file in files if len(file.parts) == 3} - {"hydra"}
    return {slot: {file.stem for file in files if file.parts[:-1] == ("conf", slot)} for slot in slots}


@pytest.mark.parametrize("slot", sorted(committed()))
def test_the_menu_lists_every_choice(slot: str) -> None:
    line = re.search(rf"^    {slot} +(.+(?:\n     +.+)*)$", README, re.M)
    assert line, f"{slot} is not in the README's menu"
    assert set(line[1].split()) == committed()[slot]


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_every_link_to_a_file_leads_there(file: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text(encoding="utf-8")):
        assert (file.parent / link).exists(), link


def list_documents() -> list[Path]:
    """The documents that speak of the present; the notebook speaks of its days."""
    files = [ROOT / name for name in ("README.md", "AGENTS.md", "CONTRIBUTING.md")]
    return files + sorted(file for file in (ROOT / "docs").glob("*.md") if file.name != "log.md")


def test_every_file_that_the_documents_name_is_there() -> None:
    places = [ROOT, ROOT / "src", ROOT / "src" / "gptlab"]
    missing = set()
    for file in list_documents():
        for path in re.findall(r"`((?:\w+/)+\w+\.(?:py|yaml|md))`", file.read_text(encoding="utf-8")):
            if not any((place / path).exists() for place in places):
                missing.add(path)
    # files that a reader is shown how to write
    examples = ("decay.py", "decay.yaml", "grown.py", "grown.yaml", "my_idea.py", "my_idea.yaml", "mine.yaml")
    assert {path for path in missing if not path.endswith(examples)} == set()


def list_commands(pattern: str) -> list[tuple[str, list[str]]]:
    """The first group of a pattern and the words behind it, of each command that stands by itself in the documents."""
    commands = []
    for file in list_documents():
        lines = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        text = "\n".join(line for line in lines if "<Tab>" not in line)  # words that are not at their end
        for match in re.finditer(rf"^    +(?:\$ )?{pattern}\b(.*)$", text, re.M):
            commands.append((match[1], shlex.split(match[2], comments=True)))
    return commands


def is_known(word: str, keys: set[str]) -> bool:
    """Whether an override names a slot and choices of it, or a key of train.yaml or ablate.yaml."""
    path, _, value = word.lstrip("+~").partition("=")
    slot, first = path.partition("@")[0], path.rpartition("@")[2].partition(".")[0]
    if first == "hydra" or first.startswith("hydra/"):
        return True
    if not list_choices(slot):  # a knob: its slot, a key of its own, or a name that is added to one
        return path in keys or bool(list_choices(first)) or (word.startswith("+") and first in keys)
    names = [name for name in value.strip("[]").split(",") if not re.fullmatch("[A-Z]+|null|", name)]
    return value.startswith("glob(") or {*names} <= {*list_choices(slot)}


def test_every_override_in_the_documents_names_what_there_is() -> None:
    keys = {"output", "like"}
    for name in ("train", "ablate"):
        config = yaml.safe_load((ROOT / "conf" / f"{name}.yaml").read_text(encoding="utf-8"))
        keys |= {*flatten(config), *config}
    commands = list_commands(r"(?:python |gptlab )(train|ablate)(?:\.py)?")
    assert len(commands) > 100
    words = {word for _, words in commands for word in words if "=" in word and not word.startswith("-")}
    # the README shows what becomes of a slip
    assert {word for word in words if not is_known(word, keys)} == {"attention=gqaa"}


def test_every_option_in_the_documents_is_one_of_its_command() -> None:
    commands: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    documented = list_commands(r"(?:python -m gptlab|gptlab) (\w+)")
    assert len(documented) > 30
    for name, words in documented:
        known = {option for parameter in commands[name].params for option in parameter.opts} | {"--json", "--help"}
        options = {word for word in words if word.startswith("--")}
        assert name in ("train", "ablate") or options <= known, (name, words)


def test_the_tree_is_what_lies_there() -> None:
    tree = README.partition("## The tree")[2]
    folders = {path.name for path in (ROOT / "src" / "gptlab").iterdir() if (path / "__init__.py").exists()}
    assert folders == {*re.findall(r"(\w+)/ ", tree)} & folders
    assert len([path for path in (ROOT / "src" / "gptlab").iterdir() if path.name != "__pycache__"]) <= 20


@pytest.mark.parametrize("slot", ["attention", "position", "residual", "mlp"])
def test_the_page_of_what_goes_together_has_every_choice(slot: str) -> None:
    page = (ROOT / "docs" / "support.md").read_text(encoding="utf-8")
    sections = [part for part in page.split("## ") if slot in part.splitlines()[0].split(" x ")]
    assert len(sections) == 3
    named = {
        name for section in sections for name in re.findall(r"[a-z]\w*", " ".join(re.findall(r"^\|.*$", section, re.M)))
    }
    assert committed()[slot] <= named, "say make matrix"
