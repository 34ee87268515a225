"""Places of the menu and the programs: above src/ in a checkout, inside the package in a wheel (pyproject.toml)."""

import sys
from pathlib import Path

INSIDE = Path(__file__).parents[1] / "conf"
CONF = INSIDE if INSIDE.is_dir() else Path(__file__).parents[3] / "conf"
"""The menu; train.py and ablate.py lie beside it."""
TRAIN, ABLATE = ("gptlab train", "gptlab ablate") if CONF == INSIDE else ("python train.py", "python ablate.py")
"""How one says train.py and ablate.py here."""


def read_command() -> list[str]:
    """Return the command that was typed, in words."""
    program, *words = sys.argv
    typed = ["python", program]
    if CONF == INSIDE:  # a wheel's programs lie in the package, where nobody names them
        typed = {"train.py": TRAIN, "ablate.py": ABLATE}.get(Path(program).name, " ".join(typed)).split()
    return [*typed, *(word for word in words if word not in ("-m", "--multirun"))]  # ablate.py adds it
