"""Random numbers keyed by names: what is drawn for one name does not depend on what else is drawn."""

import hashlib


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit number that depends on the seed and the names alone."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
