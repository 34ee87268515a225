"""Tiny Shakespeare (Karpathy 2015, github.com/karpathy/char-rnn): 1,115,394 characters.

Downloaded once into the cache folder that pooch finds for this system, and verified, as is a file given by `path`.
"""

import hashlib
from pathlib import Path
from typing import Any

from gptlab.corpus.data import Data, refuse_read_errors
from gptlab.errors import Refused

ADDRESS = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class TinyShakespeare(Data):
    """The canonical file.

    path  a local copy; null: from the cache or the web
    """

    def __init__(self, *, path: str | None = None, validation: float = 0.1) -> None:
        super().__init__(validation=validation)
        self.path = path

    @classmethod
    def list_files(cls, knobs: dict[str, Any]) -> list[Path]:
        return [Path(knobs["path"]).expanduser()]

    def text(self) -> str:
        content = read_file(self.path) if self.path else download()
        digest = hashlib.sha256(content).hexdigest()
        # a figure on Tiny Shakespeare means something only on these very bytes
        if digest != SHA256:
            raise Refused(
                f"data.path={self.path} has the sha256 {digest[:16]}..., the canonical file {SHA256[:16]}...; "
                f"give that one, or read yours with data=text"
            )
        return content.decode()


def read_file(path: str) -> bytes:
    """Return the bytes of a file; raise Refused if it cannot be read."""
    with refuse_read_errors(path, "the canonical file"):
        return Path(path).expanduser().read_bytes()


def download() -> bytes:
    """Return the file from the cache or the web, verified by pooch; raise Refused where neither has it."""
    import pooch  # here, because it takes 0.1 s that other data need not wait for

    pooch.get_logger().setLevel("WARNING")  # a refusal is one line, not two
    try:
        folder = pooch.os_cache("gptlab")
        file = pooch.retrieve(ADDRESS, f"sha256:{SHA256}", fname="tinyshakespeare.txt", path=folder)
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
        raise Refused(
            f"data=tinyshakespeare cannot get {ADDRESS} ({type(error).__name__}); download it elsewhere and give "
            "data.path=<file>, or take data=shakespeare, which needs no network"
        ) from None
