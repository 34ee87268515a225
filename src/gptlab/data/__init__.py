"""What is read: one text, cut by position into what is learnt from and what is judged on."""

from pathlib import Path

from gptlab.refused import Refused


class Data:
    """The slot's contract: __init__(*, knobs, validation). A text and where it is cut; numpy and torch stay out."""

    def __init__(self, *, validation: float = 0.1) -> None:
        if not 0 < validation < 1:
            raise Refused(f"validation={validation} is not between 0 and 1; try 0.1")
        self.validation = validation

    def text(self) -> str:
        """The whole text, exactly as it stands; raises Refused if it cannot be had."""
        raise NotImplementedError

    def split(self) -> tuple[str, str]:
        """(train, validation): the first 1 - validation of the characters, and the rest."""
        text = self.text()
        cut = int(len(text) * (1 - self.validation))
        if not 0 < cut < len(text):
            raise Refused(
                f"data.validation={self.validation} cuts the {len(text)} characters of the text into {cut} and "
                f"{len(text) - cut}; each part needs one at least: give a longer text or try 0.1"
            )
        return text[:cut], text[cut:]


def read(path: str) -> bytes:
    """What a file holds; raises Refused if it is not there, is a folder or may not be read."""
    try:
        return Path(path).expanduser().read_bytes()
    except FileNotFoundError:
        raise Refused(f"data.path={path} does not exist; give a UTF-8 text file") from None
    except IsADirectoryError:
        raise Refused(f"data.path={path} is a folder; give a UTF-8 text file in it") from None
    except (OSError, ValueError, RuntimeError) as error:  # unreadable; a NUL in the name; no home for ~
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"data.path={path} cannot be read ({reason}); give a UTF-8 text file") from None
