"""Seeds derived from names, so that what is drawn for one name does not depend on what else is drawn."""

import hashlib


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit number that depends on the seed and the names alone."""
    # a hash of the text: Python's own hash() differs from process to process
    text = "/".join(map(str, (seed, *names)))
    # 63 bits, since torch's generators refuse what a signed 64-bit number cannot hold
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
