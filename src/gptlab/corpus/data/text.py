"""Any UTF-8 text: a file, all files of a folder, or those of a glob such as 'books/*.txt'.

Nothing is normalised: line ends and byte order marks stay, so that decoding gives the file back. Several files are one
text: in the order of their paths, each as it stands, nothing between them.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

    @classmethod
    def reads(cls, knobs: dict[str, Any]) -> list[Path]:
        return files(knobs["path"], WANTED)

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
        if not at and (kind := name_kind(block[:SAMPLE])):
            raise Refused(f"{name} {kind}")
        before = len(decoder.getstate()[0])
        try:
            chunk = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            place = at - before + error.start
            said = f"byte 0x{error.object[error.start]:02x} at offset {place} of {file.stat().st_size}"
            latin = "if it is Latin-1: iconv -f latin1 -t utf-8 <file> > <another file>"
            if error.reason == "unexpected end of data":
                cut = f"if it was cut, leave the rest out: head -c {place} <file> > <another file>"
                raise Refused(f"{name} ends inside a character: {said}; {cut}; {latin}") from None
            raise Refused(f"{name} is not UTF-8: {said}; convert it from what it is, {latin}") from None
        at += len(block)
        if chunk:
            yield chunk


SAMPLE = 4096
"""Bytes that tell a file of another kind."""
UTF16 = "iconv -f utf-16{} -t utf-8 <file> > <another file>"
KINDS = {
    b"\xff\xfe\0\0": "is UTF-32; convert it: iconv -f utf-32 -t utf-8 <file> > <another file>",
    b"\0\0\xfe\xff": "is UTF-32; convert it: iconv -f utf-32 -t utf-8 <file> > <another file>",
    b"\xff\xfe": f"is UTF-16; convert it: {UTF16.format('')}",
    b"\xfe\xff": f"is UTF-16; convert it: {UTF16.format('')}",
    b"\x1f\x8b": "is compressed by gzip; unpack it: gunzip --keep <file>",
    b"BZh": "is compressed by bzip2; unpack it: bunzip2 --keep <file>",
    b"\xfd7zXZ\0": "is compressed by xz; unpack it: unxz --keep <file>",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; unpack it: unzstd <file>",
    b"PK\x03\x04": "is a zip archive; unpack it: unzip <file>",
    b"PAR1": "is Parquet; read it with data=huggingface",
    b"\x93NUMPY": "is an array of numpy; read tokens with data=shards",
    b"\x89PNG": "is a picture; leave it out, with a glob such as '*.txt'",
    b"\xff\xd8\xff": "is a picture; leave it out, with a glob such as '*.txt'",
    b"%PDF": "is a PDF; take its text: pdftotext <file>",
}
"""What files of other kinds begin with, and the remedy."""


def name_kind(head: bytes) -> str:
    """Return what a file is if its first bytes are of no text, and the remedy; "" if they may be of one."""
    for start, kind in KINDS.items():
        if head.startswith(start):
            return kind
    pairs = len(head) // 2
    for order, zeros in (("le", head[1::2].count(0)), ("be", head[::2].count(0))):
        if pairs >= 16 and zeros > 0.9 * pairs and head.count(0) < 1.1 * pairs:
            return f"is UTF-16 without a mark; convert it: {UTF16.format(order)}"
    return ""


def blocks(file: Path) -> Iterator[bytes]:
    """The bytes of a file in blocks, an empty one last."""
    with told(file, WANTED), file.open("rb") as stream:
        block = b"."
        while block:
            block = stream.read(BLOCK)
            yield block
