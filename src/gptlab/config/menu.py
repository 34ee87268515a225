"""The menu: slots and choices as the folders and files of conf/."""

from pathlib import Path

CONF = Path(__file__).parents[3] / "conf"


def list_choices(group: str) -> list[str]:
    """Return the choices of a slot."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
