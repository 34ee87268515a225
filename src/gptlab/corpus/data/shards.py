"""Tokens that stand ready in files of nothing but uint16, uint32 or int64 (numpy's default), little-endian, such as
nanoGPT's train.bin and val.bin.

They are memory-mapped, so they may be of any size. Several files of one split are one long row of tokens, in the order
of their paths. The tokenizer must be the one that made them: tokenizer=gpt2 for nanoGPT's openwebtext and shakespeare.
What learns from a text is refused, as there is none. The meta.pkl beside nanoGPT's shakespeare_char is a pickle, which
may run any code, so it is never opened: take that text itself, with data=text and tokenizer=char.
"""

import re
from pathlib import Path
from typing import Any, Literal

from gptlab.corpus.data import Data, TokenFiles, files
from gptlab.errors import Refused

WANTED = "a folder, a glob or a file of tokens"
JUDGED = re.compile(r"(?:^|[^a-z])val(?:id|idation)?(?:[^a-z]|$)", re.IGNORECASE)
"""val.bin, fineweb_val_000000.bin, validation.bin, but not valley.bin."""


class Shards(Data):
    """The .bin files of a folder or glob; those named val or validation are judged on. With `validation`, none is."""

    def __init__(
        self,
        *,
        path: str | None = None,
        dtype: Literal["uint16", "uint32", "int64"] = "uint16",
        validation: float | None = None,
    ) -> None:
        super().__init__(validation=0.1 if validation is None else validation)
        if not path:
            raise Refused(f"path={path} names no file; data=shards needs data.path=<a folder or glob of .bin files>")
        self.path, self.dtype, self.cut = path, dtype, validation

    @classmethod
    def reads(cls, knobs: dict[str, Any]) -> list[Path]:
        return files(knobs["path"], WANTED, ".bin")

    @classmethod
    def role(cls, file: Path) -> str:
        return " judged" if JUDGED.search(file.stem) else ""

    def tokens(self) -> TokenFiles:
        found = files(self.path, WANTED, ".bin")
        judged = [file for file in found if JUDGED.search(file.stem)]
        train = [file for file in found if file not in judged]
        if self.cut is not None and judged:
            raise Refused(
                f"data.validation={self.cut} cuts a validation split off, and {judged[0]} is one; "
                "say data.validation=null, or leave that file out with a glob"
            )
        if not train or (self.cut is None and not judged):
            missing = "no file to learn from" if not train else "no file named val or validation"
            raise Refused(
                f"data.path={self.path} has {missing}; data.validation=0.1 takes the last tenth of the tokens"
            )
        return TokenFiles(train, judged, self.dtype)
