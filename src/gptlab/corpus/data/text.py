"""UTF-8 text: a file, all files of a folder, or those of a glob such as 'books/*.txt'.

Nothing is normalized: line ends and byte order marks stay, so that decoding gives the file back. Several files are
concatenated in the order of their paths, with nothing between them.

Documents are the files, or what stands in them between blank lines or <|endoftext|>. What separates two is the end of
the first, which so learns to end.
"""

import codecs
import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gptlab.config.typecheck import show_value
from gptlab.corpus.data import Data, find_files, refuse_read_errors
from gptlab.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    from gptlab.corpus.documents import TextDocuments

EXPECTED = "a UTF-8 text file, a folder of them, or a glob"
BLOCK = 2**20
"""Bytes read at once."""


class Text(Data):
    """The text at `path`, read block by block, since it may be larger than memory.

    documents       what one is: a file, or what stands in it between blank lines or <|endoftext|>; null is not asked
    mask_documents  read each as if it were alone: no attention, no state and no position reaches across its border
    packing         rows of training: stream takes windows of the running text, best_fit whole documents
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        documents: Literal["file", "blank_line", "endoftext"] | None = None,
        mask_documents: bool = False,
        packing: Literal["stream", "best_fit"] = "stream",
        validation: float = 0.1,
    ) -> None:
        super().__init__(validation=validation)
        if not path:
            raise Refused(
                f"path={show_value(path)} names no file; data=text needs data.path=<a UTF-8 text file, folder or glob>"
            )
        self.path, self.separator = path, documents or "file"
        self.set_document_options(documents is not None, mask_documents, packing)

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        return find_files(knobs["path"], EXPECTED)

    def text(self) -> str:
        return "".join(self.chunks())

    def chunks(self) -> Iterator[str]:
        paths, is_empty = find_files(self.path, EXPECTED), True
        for file in paths:
            label = f"data.path={self.path}" if len(paths) == 1 else f"data.path={self.path} holds {file}, which"
            for chunk in decode_file(file, label):
                is_empty = False
                yield chunk
        if is_empty:
            raise Refused(f"data.path={self.path} is empty; give {EXPECTED} with text in it")

    def describe_doubts(self) -> str:
        files = find_files(self.path, EXPECTED)
        doubtful = [file for file in files if file.suffix.lower() in TABLES or file.suffix.lower() in LINES]
        # a name may say nothing; one file is enough to see what they are
        if not doubtful and holds_json_lines(files[0]):
            doubtful = files[:1]
        if not doubtful:
            return ""
        first = doubtful[0]
        if first.suffix.lower() in TABLES:
            what, remedy = "a table", "write its column of texts as Parquet, and read that with data=huggingface"
        else:
            what, remedy = "JSON", f"data=huggingface data.path={first} data.column=text reads the texts of its lines"
        count = f"{len(doubtful)} of {len(files)} files are" if len(files) > 1 else "it is"
        return f"{first.name}: {count} {what}, learnt with all quotes, braces and names of fields; {remedy}"

    def find_documents(self) -> "TextDocuments":
        import numpy as np

        from gptlab.corpus.documents import TextDocuments, name_sources

        starts, sources, size = [], [], 0
        for file in find_files(self.path, EXPECTED):
            sources.append((str(file), size))
            with refuse_read_errors(file, EXPECTED):
                starts.append(size + find_borders(file, self.separator))
                size += file.stat().st_size
        # a separator that ends the text begins nothing
        places = np.unique(np.concatenate(starts))
        return TextDocuments(places[places < size], size, name_sources(sources))


TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson", ".json")
"""Names of files whose texts stand among other things."""


def holds_json_lines(file: Path) -> bool:
    """Return whether the first line of a file is a JSON object."""
    with refuse_read_errors(file, EXPECTED), file.open("rb") as stream:
        line = stream.readline(BLOCK)
    try:
        return line.lstrip().startswith(b"{") and isinstance(json.loads(line), dict)
    except ValueError:  # no JSON, or no UTF-8
        return False


SEPARATORS = {"blank_line": re.compile(rb"\n\r?\n[\r\n]*"), "endoftext": re.compile(rb"<\|endoftext\|>[\r\n]*")}
"""What ends a document, with the line breaks after it."""


def find_borders(file: Path, separator: str) -> "np.ndarray":
    """Return the bytes of a file at which documents begin, the first byte one of them, (D,)."""
    import numpy as np

    places = [0]
    # an empty file cannot be mapped
    if separator != "file" and file.stat().st_size:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            places += [match.end() for match in SEPARATORS[separator].finditer(content)]
    return np.array(places, np.int64)


def decode_file(file: Path, label: str) -> Iterator[str]:
    """Yield the characters of a file; one that is cut by the end of a block comes with the next block."""
    # strict: a byte that is replaced would be learnt as U+FFFD
    decoder, offset = codecs.getincrementaldecoder("utf-8")(), 0
    for block in read_blocks(file):
        if not offset and (kind := describe_foreign_content(block[:SAMPLE])):
            raise Refused(f"{label} {kind}")
        # bytes of a character that the last block cut: an error's place counts from them
        held_bytes = len(decoder.getstate()[0])
        try:
            chunk = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            error_offset = offset - held_bytes + error.start
            bad_byte = f"byte 0x{error.object[error.start]:02x} at offset {error_offset} of {file.stat().st_size}"
            latin_hint = "if it is Latin-1: iconv -f latin1 -t utf-8 <file> > <another file>"
            if error.reason == "unexpected end of data":
                cut_hint = f"if it was cut, leave the rest out: head -c {error_offset} <file> > <another file>"
                raise Refused(f"{label} ends inside a character: {bad_byte}; {cut_hint}; {latin_hint}") from None
            raise Refused(f"{label} is not UTF-8: {bad_byte}; convert it from what it is, {latin_hint}") from None
        offset += len(block)
        if chunk:
            yield chunk


SAMPLE = 4096
"""Bytes at the start of a file that are checked for another format."""
UTF16 = "iconv -f utf-16{} -t utf-8 <file> > <another file>"
SIGNATURES = {
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
"""First bytes of files of other formats, what they are, and the remedy."""


def describe_foreign_content(head: bytes) -> str:
    """Return the kind of a file whose first bytes are not UTF-8 text, and the remedy; "" if they may be text."""
    for signature, kind in SIGNATURES.items():
        if head.startswith(signature):
            return kind
    # in UTF-16 of European text every second byte is 0
    pairs = len(head) // 2
    # zeros in every second byte, and nearly none elsewhere: binary files have them in both
    for order, zeros in (("le", head[1::2].count(0)), ("be", head[::2].count(0))):
        if pairs >= 16 and zeros > 0.9 * pairs and head.count(0) < 1.1 * pairs:
            return f"is UTF-16 without a mark; convert it: {UTF16.format(order)}"
    return ""


def read_blocks(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a file in blocks, with an empty one last."""
    with refuse_read_errors(file, EXPECTED), file.open("rb") as stream:
        block = b"."
        while block:
            block = stream.read(BLOCK)
            yield block
