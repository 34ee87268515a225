"""Files of tokens: nothing but uint16, uint32 or int64 (numpy's default), little-endian, such as nanoGPT's train.bin.

They are memory-mapped, so they may be of any size. Several files of one split are concatenated in the order of their
paths. The tokenizer must be the one that made them: tokenizer=gpt2 for nanoGPT's openwebtext and shakespeare.
Files of llm.c and modded-nanogpt say in a header of 256 int32 what they hold: uint16 of GPT-2 or uint32 of Llama 3.
Tokenizers that learn from a text are refused, as there is none. The meta.pkl beside nanoGPT's shakespeare_char is a
pickle, which may run any code, so it is never opened: use that text itself, with data=text and tokenizer=char.
"""

import re
from pathlib import Path
from typing import Any, Literal

from gptlab.config.typecheck import show_value
from gptlab.corpus.data import Data, TokenFiles, find_files
from gptlab.errors import Refused

EXPECTED = "a folder, a glob or a file of tokens"
VALIDATION_NAME = re.compile(r"(?:^|[^a-z])val(?:id|idation)?(?:[^a-z]|$)", re.IGNORECASE)
"""Matches val.bin, fineweb_val_000000.bin and validation.bin, but not valley.bin."""


class Shards(Data):
    """The .bin files of a folder or glob.

    path        a folder, glob or file
    dtype       type of the tokens in files without a header
    documents   the token that begins one, or ends the one before, such as 50256 of GPT-2; null is not asked
    mask_documents  read each as if it were alone: no attention, no state and no position reaches across its border
    packing         rows of training: stream takes windows of the running text, best_fit whole documents
    validation  share of the tokens at the end that is the validation split; null: files named val or validation are
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        dtype: Literal["uint16", "uint32", "int64"] = "uint16",
        documents: int | None = None,
        mask_documents: bool = False,
        packing: Literal["stream", "best_fit"] = "stream",
        validation: float | None = None,
    ) -> None:
        # the base class wants a share; whether it was given is remembered below
        super().__init__(validation=0.1 if validation is None else validation)
        if not path:
            raise Refused(
                f"path={show_value(path)} names no file; data=shards needs data.path=<a folder or glob of .bin files>"
            )
        if mask_documents and documents is None:
            raise Refused(
                "mask_documents=true needs data.documents=<the token between two>, such as 50256 of tokenizer=gpt2"
            )
        self.path, self.dtype, self.validation_share = path, dtype, validation
        self.documents = documents
        self.set_document_options(documents is not None, mask_documents, packing)

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        return find_files(knobs["path"], EXPECTED, ".bin")

    @classmethod
    def describe_role(cls, file: Path) -> str:
        return " judged" if VALIDATION_NAME.search(file.stem) else ""

    def find_separator(self, vocab: int) -> int:
        if self.documents is None or not 0 <= self.documents < vocab:
            raise Refused(f"data.documents={self.documents} is no token of the {vocab}; give the one between documents")
        return self.documents

    def tokens(self) -> TokenFiles:
        paths = find_files(self.path, EXPECTED, ".bin")
        # the file's own name alone: a folder called val would make all of it validation
        validation_files = [file for file in paths if VALIDATION_NAME.search(file.stem)]
        train = [file for file in paths if file not in validation_files]
        if self.validation_share is not None and validation_files:
            raise Refused(
                f"data.validation={self.validation_share} cuts a validation split off, and {validation_files[0]} is "
                "one; say data.validation=null, or leave that file out with a glob"
            )
        # never a default share here: files that somebody cut should be used as they were cut
        if not train or (self.validation_share is None and not validation_files):
            missing = "no file to learn from" if not train else "no file named val or validation"
            raise Refused(
                f"data.path={self.path} has {missing}; data.validation=0.1 takes the last tenth of the tokens"
            )
        return TokenFiles(train, validation_files, self.dtype)
