"""The tokenizer of a checkpoint: its tokenizer.json, as Hugging Face's tokenizers write it.

Supported are byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), and SentencePiece's BPE with byte fallback (Llama 1-2,
Mistral). Settings that would change a text are dropped, so that it decodes exactly: normal forms, truncation, padding,
dropout, blanks that added tokens strip, and the space that SentencePiece puts before the first word. A text that still
decodes differently is refused where it is encoded. Special tokens are not recognized in a text; their names are text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers

from gptlab.corpus.tokenizer import (
    BYTE_OF_CHARACTER,
    MAX_VOCAB,
    Tokenizer,
    decode_piece,
    describe_character,
    encode_utf8,
)
from gptlab.errors import Refused

SPACE = "▁"
"""SentencePiece's character for a space."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
CUT = re.compile(r"(?<=\S)(?= )")
"""Matches positions that no token spans: between a character and a space after it."""
PORTION = 2**16


class File(Tokenizer):
    """A tokenizer.json.

    path   the file, or the folder of a checkpoint
    vocab  number of tokens; null: as many as the file has. A checkpoint's is larger where its vocabulary was padded
    """

    def __init__(
        self,
        train: Iterable[str] = (),
        validation: Iterable[str] = (),
        *,
        path: str | None = None,
        vocab: int | None = None,
    ) -> None:
        if path is None:
            raise ValueError("path is missing; give a checkpoint's folder or its tokenizer.json")
        try:
            text = find_tokenizer_json(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(
                f"path={path} is no text, so no tokenizer.json; one of SentencePiece becomes that by transformers: "
                "AutoTokenizer.from_pretrained(<folder>).save_pretrained(<folder>)"
            ) from None
        except OSError as error:
            raise ValueError(f"path={path} cannot be read: {error.strerror}") from error
        self._load(text, path, vocab)

    def _load(self, text: str, path: str, vocab: int | None) -> None:
        """Parse the JSON `text` of `path` and build the tokenizer from it; raise ValueError if it cannot be used."""
        try:
            definition = json.loads(text)
            kind, exact = definition["model"]["type"], drop_text_changes(definition)
            self.model = tokenizers.Tokenizer.from_str(json.dumps(exact))
        except Exception as error:  # the library raises Exception itself
            if isinstance(error, KeyError):
                reason = f"{error} is missing"
            elif isinstance(error, TypeError | AttributeError):
                reason = "it holds no object"
            else:
                reason = str(error).splitlines()[0][:120]
            raise ValueError(f"path={path} is no tokenizer.json: {reason}; give one of tokenizers") from error
        byte_level = "ByteLevel" in json.dumps([definition.get("pre_tokenizer"), definition.get("decoder")])
        if kind != "BPE" or not (byte_level or definition["model"].get("byte_fallback")):
            raise ValueError(f"path={path} holds {kind} that cannot write every text; byte-level BPE can")
        # names of special tokens in a text are text: a corpus must not be able to end a document
        self.model.encode_special_tokens = True
        piece_of_token = {token: piece_to_bytes(piece, byte_level) for piece, token in self.model.get_vocab().items()}
        for token in exact["added_tokens"]:
            # written as it stands, in neither spelling
            piece_of_token[token["id"]] = token["content"].encode()
        self.special = [token["id"] for token in exact["added_tokens"] if token.get("special")]
        min_vocab = max(piece_of_token) + 1
        if vocab is not None and vocab < min_vocab:
            raise ValueError(f"vocab={vocab} is less than the {min_vocab} tokens of {path}; give {min_vocab} or more")
        if (vocab or min_vocab) > MAX_VOCAB:
            raise ValueError(
                f"vocab={vocab or min_vocab} is more than {MAX_VOCAB:,}; give {min_vocab:,} or the checkpoint's number"
            )
        self.text, self.path, self.padded_vocab, self.byte_level = text, path, vocab, byte_level
        super().__init__([piece_of_token.get(token, b"") for token in range(vocab or min_vocab)])

    def encode(self, text: str) -> np.ndarray:
        encode_utf8(text)
        if not self.byte_level and SPACE in text:
            character = describe_character(text, text.index(SPACE))
            raise Refused(f"{character} is how {self.path} writes a space; take it out of the text")
        parts: list[Any] = [np.empty(0, np.uint32)]
        start = 0
        for portion in self.portions([text]):
            tokens = self.model.encode(portion, add_special_tokens=False).ids
            decoded = b"".join([self.pieces[token] for token in tokens])
            # checked for every portion, since which settings change a text cannot be listed for all tokenizers
            if decoded != portion.encode():
                raise Refused(f"tokenizer.path={self.path} {describe_loss(text, start, portion, decoded)}")
            parts.append(tokens)
            start += len(portion)
        return np.concatenate(parts).astype(self.dtype)

    def portions(self, chunks: Iterable[str]) -> Iterator[str]:
        buffer = ""
        for chunk in chunks:
            buffer += chunk
            while len(buffer) > PORTION:
                # the last one in the portion; where there is none a word is cut, which may change the tokens there
                cuts = [match.end() for match in CUT.finditer(buffer, 0, PORTION)]
                end = cuts[-1] if cuts else PORTION
                yield buffer[:end]
                buffer = buffer[end:]
        if buffer:
            yield buffer

    def lengths(self) -> np.ndarray:
        lengths = super().lengths()
        # special tokens are no bytes of the text
        lengths[self.special] = 0
        return lengths

    def state(self) -> dict[str, Any]:
        return {"json": self.text, "path": self.path, "vocab": self.padded_vocab}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        tokenizer = cls.__new__(cls)
        tokenizer._load(state["json"], state["path"], state["vocab"])
        return tokenizer

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        return [find_tokenizer_json(knobs["path"])] if knobs.get("path") else []


def find_tokenizer_json(path: str) -> Path:
    """Return the tokenizer.json of a file's or folder's path."""
    location = Path(path).expanduser()
    file = location / "tokenizer.json" if location.is_dir() else location
    if not file.is_file():
        raise ValueError(
            f"tokenizer.path={path} is not there, or has no tokenizer.json; give a checkpoint's folder or that file"
        )
    return file


def drop_text_changes(definition: dict[str, Any]) -> dict[str, Any]:
    """Return the definition in a tokenizer.json without the settings that change a text."""
    normalizer = definition.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    # the one step that is kept: SentencePiece's spelling of a space, which decoding undoes
    spaces = [step for step in steps if step.get("content") == SPACE and "pattern" in step]
    # a copy, since its steps are changed below, and the caller reads the definition on
    pre_tokenizer = json.loads(json.dumps(definition.get("pre_tokenizer")))
    # a space before the first word would be decoded into a text that had none
    for step in [pre_tokenizer, *pre_tokenizer.get("pretokenizers", [])] if pre_tokenizer else []:
        for key, value in (("add_prefix_space", False), ("prepend_scheme", "never")):
            if key in step:
                step[key] = value
    vocab = definition["model"]["vocab"]
    added = []
    for token in definition.get("added_tokens") or []:
        is_byte = BYTE.fullmatch(token["content"]) and vocab.get(token["content"]) == token["id"]
        if not is_byte:
            added.append({**token, "lstrip": False, "rstrip": False})
    return {
        **definition,
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": spaces} if spaces else None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "model": {**definition["model"], "dropout": None},
    }


def describe_loss(text: str, start: int, portion: str, decoded: bytes) -> str:
    """Describe where a portion of a text, which begins at `start`, first differs from its decoded tokens."""
    original = portion.encode()
    pairs = enumerate(zip(original, decoded, strict=False))
    shorter = min(len(original), len(decoded))
    first_difference = next((index for index, (before, after) in pairs if before != after), shorter)
    prefix = original[:first_difference].decode(errors="ignore")
    position = len(prefix)
    instead = decoded[len(prefix.encode()) :].decode(errors="replace")[:12]
    if position < len(portion):
        where = describe_character(text, start + position)
    else:
        where = f"the end, after {portion[-12:]!a},"
    outcome = f"comes back as {instead!a}" if instead else "is lost"
    remedy = "take tokenizer=bpe or byte, or a tokenizer that writes all bytes"
    return f"does not keep the text: {where} {outcome}; {remedy}"


def piece_to_bytes(piece: str, byte_level: bool) -> bytes:
    """Return the bytes of a piece, in GPT-2's spelling if `byte_level`, else in SentencePiece's."""
    if byte_level:
        return decode_piece(piece) if all(character in BYTE_OF_CHARACTER for character in piece) else piece.encode()
    if match := BYTE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(SPACE, " ").encode()
