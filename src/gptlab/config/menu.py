"""The menu: slots and choices as the folders and files of conf/."""

from pathlib import Path

INSIDE = Path(__file__).parents[1] / "conf"
CONF = INSIDE if INSIDE.is_dir() else Path(__file__).parents[3] / "conf"
"""In a wheel conf/, train.py and ablate.py lie inside the package, in a checkout above src/ (pyproject.toml)."""
TRAIN, ABLATE = ("gptlab train", "gptlab ablate") if CONF == INSIDE else ("python train.py", "python ablate.py")
"""How one says train.py and ablate.py here."""


def list_choices(group: str) -> list[str]:
    """Return the choices of a slot."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
