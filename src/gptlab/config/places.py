"""Places of the menu and the programs: above src/ in a checkout, inside the package in a wheel (pyproject.toml)."""

from pathlib import Path

INSIDE = Path(__file__).parents[1] / "conf"
CONF = INSIDE if INSIDE.is_dir() else Path(__file__).parents[3] / "conf"
"""The menu; train.py and ablate.py lie beside it."""
TRAIN, ABLATE = ("gptlab train", "gptlab ablate") if CONF == INSIDE else ("python train.py", "python ablate.py")
"""How one says train.py and ablate.py here."""
