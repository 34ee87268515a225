"""Arrays of a run's evaluation.npz, which the final evaluation writes."""

from pathlib import Path

import numpy as np

from gptlab.errors import Refused
from gptlab.runs.record import REMEDY


def read_evaluation(folder: Path, *names: str) -> dict[str, np.ndarray]:
    """Return arrays by name, those that the run has; none before its final evaluation."""
    path = folder / "evaluation.npz"
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in names if name in arrays}
    except Exception as error:  # no zip, half of one, one of other things
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise Refused(f"{path} is not as it was written ({reason[:60]}); {REMEDY}") from error
