"""A text to tokens on disk, once: portion by portion, on all cores, in little memory whatever the size of the text."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gptlab.config.factory import Factory
from gptlab.console.progress import delayed_progress
from gptlab.corpus.disk_cache import shelved
from gptlab.corpus.split import Part, Split
from gptlab.corpus.token_files import mapped
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.runs.fingerprint import fingerprint


def tokenised(split: Split, make: Factory, cache: Path) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    """The tokenizer of a text and the tokens of both parts, memory-mapped; made if they are not in the cache."""

    def fill(folder: Path) -> None:
        tokenizer = learned(split, make)
        sha, counts = hashlib.sha256(), {"train": 0, "validation": 0}
        for name, part in (("train", split.train), ("validation", split.validation)):
            with (folder / f"{name}.bin").open("wb") as file:
                for portion, tokens in encoded(tokenizer, part):
                    sha.update(portion.encode())
                    counts[name] += len(tokens)
                    tokens.astype(tokens.dtype.newbyteorder("<"), copy=False).tofile(file)
        if sha.hexdigest() != split.sha256:
            raise Refused("the text changed while it was read; start again when it no longer does")
        (folder / "tokens.json").write_text(json.dumps({"tokenizer": tokenizer.state(), **counts}))

    folder = shelved(cache / f"tokens-{key(split, make)}", fill)
    try:
        facts = json.loads((folder / "tokens.json").read_text())
        tokenizer = make.target.restore(facts["tokenizer"])  # type: ignore[attr-defined]
        train, validation = (mapped(folder / f"{name}.bin", tokenizer.dtype.name) for name in ("train", "validation"))
        if (len(train), len(validation)) == (facts["train"], facts["validation"]):
            return tokenizer, train, validation
    except (OSError, ValueError, KeyError):
        pass
    raise Refused(f"{folder} is not as it was made; remove that folder, and it is made anew")


def key(split: Split, make: Factory) -> str:
    """Sixteen hex digits of all that the tokens depend on: the text, its cut, the tokenizer's knobs and its code."""
    module = make.target.__module__
    files = [hashlib.sha256(file.read_bytes()).hexdigest() for file in make.target.reads(make.knobs)]  # type: ignore[attr-defined]
    parts = [split.sha256, len(split.train), module, make.target.__qualname__, make.knobs, files, fingerprint([module])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def learned(split: Split, make: Factory) -> Tokenizer:
    """The tokenizer of a text."""
    with delayed_progress("learning the vocabulary", len(split.train) + len(split.validation)) as shown:

        def counted(part: Part) -> Iterator[str]:
            for chunk in part:
                shown.advance(len(chunk))
                yield chunk

        return make(counted(split.train), counted(split.validation))


def encoded(tokenizer: Tokenizer, part: Part) -> Iterator[tuple[str, np.ndarray]]:
    """The portions of a part of a text and their tokens, in order. Threads suffice: the work lets Python's lock go."""
    waiting: deque[tuple[str, Future[np.ndarray]]] = deque()
    threads = cores()
    with delayed_progress("tokenising the text", len(part)) as shown, ThreadPoolExecutor(threads) as pool:

        def first() -> tuple[str, np.ndarray]:
            portion, future = waiting.popleft()
            shown.advance(len(portion))
            return portion, future.result()

        for portion in tokenizer.portions(part):
            waiting.append((portion, pool.submit(tokenizer.encode, portion)))
            if len(waiting) > 2 * threads:
                yield first()
        while waiting:
            yield first()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
