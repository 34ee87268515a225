"""Laws of tokenizers: the way there and back is exact, and what cannot be honoured is refused."""

import importlib
import inspect
import json
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from gptlab.refused import Refused
from gptlab.tokenizer import Tokenizer
from gptlab.tokenizer.byte import Byte
from gptlab.tokenizer.char import CHUNK, Char

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "conf" / "tokenizer").glob("*.yaml"))
KNOWN = [Char, Byte]


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
@pytest.mark.parametrize("kind", KNOWN)
def test_there_and_back_is_exact(kind: type, seed: int):
    text = scribble(seed) + "\r\n\0\ufeff\n"
    tokenizer = kind(text[:400], text[400:])
    for part in (text, text[:1], text[-3:], ""):
        tokens = tokenizer.encode(part)
        assert tokenizer.decode(tokens) == tokenizer.decode(tokens.tolist()) == part
        assert tokenizer.lengths()[tokens].sum() == len(part.encode())
        assert tokens.dtype == tokenizer.dtype
        assert tokens.max(initial=0) < tokenizer.vocab


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KNOWN)
def test_stream_says_what_decode_says(kind: type, seed: int):
    """Also of tokens that make no UTF-8, as a young model writes them."""
    tokenizer = kind(scribble(seed), "")
    tokens = np.random.default_rng(seed).integers(0, tokenizer.vocab, 2000)
    whole = np.concatenate([tokens, tokenizer.encode(scribble(seed)), tokens])
    pieces = list(tokenizer.stream(iter(whole.tolist())))
    assert "".join(pieces) == tokenizer.decode(whole)
    assert all(pieces)


def test_a_character_streams_when_it_is_whole():
    byte = Byte()
    assert list(byte.stream(byte.encode("aé🐍"))) == ["a", "é", "🐍"]


@pytest.mark.parametrize("kind", KNOWN)
def test_restored_from_json_it_is_the_same(kind: type):
    tokenizer = kind(scribble(0), scribble(1))
    again = kind.restore(json.loads(json.dumps(tokenizer.state())))
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
