"""Tokenizing a text into files, once, portion by portion on all cores; memory does not grow with the text."""

import hashlib
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.config.factory import Factory
from gptlab.console.progress import delayed_progress
from gptlab.corpus.disk_cache import cached_folder
from gptlab.corpus.split import Part, Split
from gptlab.corpus.token_files import memory_map
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.runs.fingerprint import fingerprint
from gptlab.runs.machine import count_cores


def load_or_tokenize(
    split: Split, tokenizer_factory: Factory, cache_folder: Path
) -> tuple[Tokenizer, np.ndarray, np.ndarray]:
    """Return the tokenizer of a text and the tokens of both parts, memory-mapped from the cache.

    What the cache does not hold is made first. Raises Refused if the text changes meanwhile or the cached folder is
    damaged.
    """

    def fill(folder: Path) -> None:
        tokenizer = train_tokenizer(split, tokenizer_factory)
        # hashed again while it is encoded: a text that grows meanwhile would leave tokens of two versions
        sha, counts = hashlib.sha256(), {"train": 0, "validation": 0}
        for name, part in (("train", split.train), ("validation", split.validation)):
            with (folder / f"{name}.bin").open("wb") as file:
                for portion, tokens in encode_portions(tokenizer, part):
                    sha.update(portion.encode())
                    counts[name] += len(tokens)
                    # little-endian on every machine, since the cache may lie on a shared disk
                    tokens.astype(tokens.dtype.newbyteorder("<"), copy=False).tofile(file)
        if sha.hexdigest() != split.sha256:
            raise Refused("the text changed while it was read; start again when it no longer does")
        (folder / "tokens.json").write_text(json.dumps({"tokenizer": tokenizer.state(), **counts}))

    folder = cached_folder(cache_folder / f"tokens-{cache_key(split, tokenizer_factory)}", fill)
    try:
        facts = json.loads((folder / "tokens.json").read_text())
        tokenizer = tokenizer_factory.target.restore(facts["tokenizer"])  # type: ignore[attr-defined]
        train = memory_map(folder / "train.bin", tokenizer.dtype.name)
        validation = memory_map(folder / "validation.bin", tokenizer.dtype.name)
        # a truncated file maps without an error, and would train on less text
        if (len(train), len(validation)) == (facts["train"], facts["validation"]):
            return tokenizer, train, validation
    except (OSError, ValueError, KeyError):
        pass
    raise Refused(f"{folder} is not as it was made; remove that folder, and it is made anew")


def cache_key(split: Split, tokenizer_factory: Factory) -> str:
    """Return 16 hex digits of all that the tokens depend on.

    That is the text, where it is split, and the tokenizer's class, knobs, files and code.
    """
    ingredients = [split.sha256, len(split.train), *list_tokenizer_ingredients(tokenizer_factory)]
    return hashlib.sha256(json.dumps(ingredients).encode()).hexdigest()[:16]


def list_tokenizer_ingredients(tokenizer_factory: Factory) -> list[Any]:
    """Return the key of a text's tokens in the cache, as JSON: the tokenizer's class, knobs, files and code."""
    target: Any = tokenizer_factory.target
    knobs, module = tokenizer_factory.knobs, target.__module__
    file_hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in target.list_files(knobs)]
    # a tokenizer that is changed writes other tokens under the same knobs
    code = fingerprint([module])
    return [module, target.__qualname__, knobs, file_hashes, code]


def train_tokenizer(split: Split, tokenizer_factory: Factory) -> Tokenizer:
    """Build the tokenizer of a text, which learns its vocabulary if it is one that does."""
    with delayed_progress("learning the vocabulary", len(split.train) + len(split.validation)) as progress:

        def count_characters(part: Part) -> Iterator[str]:
            for chunk in part:
                progress.advance(len(chunk))
                yield chunk

        return tokenizer_factory(count_characters(split.train), count_characters(split.validation))


def encode_portions(tokenizer: Tokenizer, part: Part) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the portions of a part of a text with their tokens, in order.

    Threads suffice: the tokenizers release Python's lock while they encode.
    """
    pending: deque[tuple[str, Future[np.ndarray]]] = deque()
    threads = count_cores()
    with delayed_progress("tokenising the text", len(part)) as progress, ThreadPoolExecutor(threads) as pool:

        def take_first() -> tuple[str, np.ndarray]:
            portion, future = pending.popleft()
            progress.advance(len(portion))
            return portion, future.result()

        for portion in tokenizer.portions(part):
            pending.append((portion, pool.submit(tokenizer.encode, portion)))
            # bounded, so that memory does not grow with the text; two for each thread keep all busy
            if len(pending) > 2 * threads:
                yield take_first()
        while pending:
            yield take_first()
