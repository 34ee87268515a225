"""The tokenizer of a checkpoint: its tokenizer.json, as Hugging Face's tokenizers write it.

Byte-level pairs (GPT-2, Llama 3, Qwen, SmolLM), and SentencePiece's with bytes to fall back on (Llama 1-2, Mistral).
What would change a text is left out, so that it comes back exactly: normal forms, truncation, padding, dropout, blanks
that added tokens eat, and the space that SentencePiece puts before the first word. What still comes back otherwise is
refused where it is encoded. Special tokens are not read in a text: one that holds their names is a text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers

from gptlab.corpus.tokenizer import WRITING, Tokenizer, name, unwritten, utf8
from gptlab.errors import Refused

SPACE = "▁"
"""How SentencePiece writes one."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
CUT = re.compile(r"(?<=\S)(?= )")
"""Where no token goes on, from no space to a space."""
PORTION = 2**16


class File(Tokenizer):
    """path: the file, or the folder of a checkpoint, whose `vocab` is larger than the file's where it was padded."""

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
            text = source(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(
                f"path={path} is no text, so no tokenizer.json; one of SentencePiece becomes that by transformers: "
                "AutoTokenizer.from_pretrained(<folder>).save_pretrained(<folder>)"
            ) from None
        except OSError as error:
            raise ValueError(f"path={path} cannot be read: {error.strerror}") from error
        self._open(text, path, vocab)

    def _open(self, text: str, path: str, vocab: int | None) -> None:
        try:
            told = json.loads(text)
            kind, made = told["model"]["type"], plain(told)
            self.model = tokenizers.Tokenizer.from_str(json.dumps(made))
        except Exception as error:  # the library raises Exception itself
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0][:120]
            reason = "it holds no object" if isinstance(error, TypeError | AttributeError) else reason
            raise ValueError(f"path={path} is no tokenizer.json: {reason}; give one of tokenizers") from error
        leveled = "ByteLevel" in json.dumps([told.get("pre_tokenizer"), told.get("decoder")])
        if kind != "BPE" or not (leveled or told["model"].get("byte_fallback")):
            raise ValueError(f"path={path} holds {kind} that cannot write every text; byte-level BPE can")
        self.model.encode_special_tokens = True
        added = {token["id"]: token["content"].encode() for token in made["added_tokens"]}
        known = {at: written(piece, leveled) for piece, at in self.model.get_vocab().items() if at not in added} | added
        self.special = [token["id"] for token in made["added_tokens"] if token.get("special")]
        least = max(known) + 1
        if vocab is not None and vocab < least:
            raise ValueError(f"vocab={vocab} is less than the {least} tokens of {path}; give {least} or more")
        self.text, self.path, self.padded, self.leveled = text, path, vocab, leveled
        super().__init__([known.get(at, b"") for at in range(vocab or least)])

    def encode(self, text: str) -> np.ndarray:
        utf8(text)
        if not self.leveled and SPACE in text:
            raise Refused(f"{name(text, text.index(SPACE))} is how {self.path} writes a space; take it out of the text")
        parts: list[Any] = [np.empty(0, np.uint32)]
        start = 0
        for portion in self.portions([text]):
            tokens = self.model.encode(portion, add_special_tokens=False).ids
            back = b"".join([self.pieces[token] for token in tokens])
            if back != portion.encode():
                raise Refused(f"tokenizer.path={self.path} {describe_loss(text, start, portion, back)}")
            parts.append(tokens)
            start += len(portion)
        return np.concatenate(parts).astype(self.dtype)

    def portions(self, chunks: Iterable[str]) -> Iterator[str]:
        held = ""
        for chunk in chunks:
            held += chunk
            while len(held) > PORTION:
                cuts = [found.end() for found in CUT.finditer(held, 0, PORTION)]
                end = cuts[-1] if cuts else PORTION
                yield held[:end]
                held = held[end:]
        if held:
            yield held

    def lengths(self) -> np.ndarray:
        found = super().lengths()
        found[self.special] = 0
        return found

    def state(self) -> dict[str, Any]:
        return {"json": self.text, "path": self.path, "vocab": self.padded}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        made = cls.__new__(cls)
        made._open(state["json"], state["path"], state["vocab"])
        return made

    @classmethod
    def reads(cls, knobs: dict[str, Any]) -> list[Path]:
        return [source(knobs["path"])] if knobs.get("path") else []


def source(path: str) -> Path:
    """The file of a path."""
    here = Path(path).expanduser()
    file = here / "tokenizer.json" if here.is_dir() else here
    if not file.is_file():
        raise ValueError(f"path={path} is not there, or has no tokenizer.json; give a checkpoint's folder or that file")
    return file


def plain(told: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json without what changes a text."""
    first = told.get("normalizer") or {}
    spaces = [step for step in first.get("normalizers", [first]) if step.get("content") == SPACE and "pattern" in step]
    cutting = json.loads(json.dumps(told.get("pre_tokenizer")))
    for step in [cutting, *(cutting or {}).get("pretokenizers", [])] if cutting else []:
        reset = {"add_prefix_space": False, "prepend_scheme": "never"}
        step.update({key: value for key, value in reset.items() if key in step})
    vocab = told["model"]["vocab"]
    added = [
        {**token, "lstrip": False, "rstrip": False}
        for token in told.get("added_tokens") or []
        if not (BYTE.fullmatch(token["content"]) and vocab.get(token["content"]) == token["id"])  # a byte, no name
    ]
    return {
        **told,
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": spaces} if spaces else None,
        "pre_tokenizer": cutting,
        "post_processor": None,
        "model": {**told["model"], "dropout": None},
    }


def describe_loss(text: str, start: int, portion: str, back: bytes) -> str:
    """Say where a portion of a text, which begins at `start`, first differs from what its tokens stand for."""
    given = portion.encode()
    same = next((at for at, pair in enumerate(zip(given, back, strict=False)) if pair[0] != pair[1]), None)
    prefix = given[: min(len(given), len(back)) if same is None else same].decode(errors="ignore")
    at = len(prefix)
    instead = back[len(prefix.encode()) :].decode(errors="replace")[:12]
    where = name(text, start + at) if at < len(portion) else f"the end, after {portion[-12:]!a},"
    comes = f"comes back as {instead!a}" if instead else "is lost"
    return f"does not keep the text: {where} {comes}; take tokenizer=bpe or byte, or a tokenizer that writes all bytes"


def written(piece: str, leveled: bool) -> bytes:
    """The bytes of a piece."""
    if leveled:
        return unwritten(piece) if all(one in WRITING for one in piece) else piece.encode()
    if found := BYTE.fullmatch(piece):
        return bytes([int(found[1], 16)])
    return piece.replace(SPACE, " ").encode()
