"""Any UTF-8 text: a file, all files of a folder, or those of a glob such as 'books/*.txt'.

Nothing is normalised: line ends and byte order marks stay, so that decoding gives the file back. Several files are one
text: in the order of their paths, each as it stands, nothing between them.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

from gptlab.corpus.data import Data, files, told
from gptlab.errors import Refused

WANTED = "a UTF-8 text file, a folder of them, or a glob"
BLOCK = 2**20
"""Bytes read at once."""


class Text(Data):
    """The text at `path`, read block by block, since it may be larger than memory."""

    def __init__(self, *, path: str | None = None, validation: float = 0.1) -> None:
        super().__init__(validation=validation)
        if not path:
            raise Refused(f"path={path} names no file; data=text needs data.path=<a UTF-8 text file, folder or glob>")
        self.path = path

    def text(self) -> str:
        return "".join(self.chunks())

    def chunks(self) -> Iterator[str]:
        found, empty = files(self.path, WANTED), True
        for file in found:
            name = f"data.path={self.path}" if len(found) == 1 else f"data.path={self.path} holds {file}, which"
            for chunk in decoded(file, name):
                empty = False
                yield chunk
        if empty:
            raise Refused(f"data.path={self.path} is empty; give {WANTED} with text in it")


def decoded(file: Path, name: str) -> Iterator[str]:
    """The characters of a file; a block's last that is cut in two comes with the next block."""
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    for block in blocks(file):
        before = len(decoder.getstate()[0])
        try:
            chunk = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise Refused(
                f"{name} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {at - before + error.start} of "
                f"{file.stat().st_size}; convert it first, for example: iconv -f latin1 -t utf-8"
            ) from None
        at += len(block)
        if chunk:
            yield chunk


def blocks(file: Path) -> Iterator[bytes]:
    """The bytes of a file in blocks, an empty one last."""
    with told(file, WANTED), file.open("rb") as stream:
        block = b"."
        while block:
            block = stream.read(BLOCK)
            yield block
