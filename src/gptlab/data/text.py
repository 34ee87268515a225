"""Any UTF-8 file. Nothing is normalised: line ends and byte order marks stay, so that decoding gives the file back."""

from gptlab.data import Data, read
from gptlab.refused import Refused


class Text(Data):
    """The file at `path`."""

    def __init__(self, *, path: str | None = None, validation: float = 0.1) -> None:
        super().__init__(validation=validation)
        if not path:
            raise Refused(f"path={path} names no file; data=text needs data.path=<a UTF-8 text file>")
        self.path = path

    def text(self) -> str:
        content = read(self.path)
        if not content:
            raise Refused(f"data.path={self.path} is empty; give a UTF-8 text file with text in it")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise Refused(
                f"data.path={self.path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} of "
                f"{len(content)}; convert it first, for example: iconv -f latin1 -t utf-8"
            ) from None
