"""Environment of W&B: what its variables say, what is refused of them, and the key that stands for an account."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlparse

from gptlab.config.recipe import Tracking
from gptlab.errors import Refused
from gptlab.runs.outputs import check_writable

MIN_KEY_LENGTH = 40
"""Shortest API key."""
TIMEOUTS_S = {"init_timeout": 30, "finish_timeout": 60}
"""Seconds for what W&B would wait for much longer, or for ever."""
FOLDERS = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
UNSET_FOLDERS = [name for name in FOLDERS if not os.environ.get(name)]
"""Places outside the outputs, where W&B would stage files; the user's own choice, if there is one, stands."""
LONGEST_NAME = 128
"""Characters that the service takes for the name of a run, a group or a project."""


def read_timeouts() -> dict[str, float]:
    """Return TIMEOUTS_S, or what WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT say instead."""
    timeouts = {}
    for name, seconds in TIMEOUTS_S.items():
        variable = f"WANDB_{name.upper()}"
        value = os.environ.get(variable, "").strip() or str(seconds)
        try:
            timeouts[name] = float(value)
        except ValueError:
            timeouts[name] = 0.0
        if not 0 < timeouts[name] < float("inf"):
            raise Refused(f"{variable}={value} is no number of seconds > 0; set it to {seconds}, or unset it")
    return timeouts


def check_environment(tracking: Tracking) -> None:
    """Refuse what the service would not take, and name the variable or knob that says it."""
    read_timeouts()  # for its refusal
    names = {"tracking.project": tracking.project, "tracking.group": tracking.group, "tracking.entity": tracking.entity}
    names["WANDB_RUN_GROUP"] = os.environ.get("WANDB_RUN_GROUP")
    variables = {"tracking.project": "WANDB_PROJECT", "tracking.entity": "WANDB_ENTITY"}
    for knob, name in names.items():
        if name and name == os.environ.get(variables.get(knob, "")):
            knob = variables[knob]
        if name and len(name) > LONGEST_NAME:
            raise Refused(f"{knob}={name[:20]}... has {len(name)} characters, and W&B takes {LONGEST_NAME}; shorten it")
    if len((os.environ.get("WANDB_API_KEY") or "").split()) > 1:
        raise Refused("WANDB_API_KEY has a blank or a line break inside; set it to the key alone, or unset it")
    for name in FOLDERS:
        if (folder := os.environ.get(name)) and name not in UNSET_FOLDERS and check_writable(Path(folder)):
            raise Refused(f"{name}={folder} cannot be written; set it to another folder, or unset it")


def tidy_environment() -> None:
    """Remove empty W&B variables from the environment, and blanks around the others, which W&B itself would refuse."""
    for name, value in [*os.environ.items()]:
        if name.startswith("WANDB_") and not value.strip():
            del os.environ[name]
    if "WANDB_API_KEY" in os.environ:
        os.environ["WANDB_API_KEY"] = os.environ["WANDB_API_KEY"].strip()
    if "WANDB_TAGS" in os.environ:
        os.environ["WANDB_TAGS"] = ",".join(read_tags())
        if not os.environ["WANDB_TAGS"]:
            del os.environ["WANDB_TAGS"]


def read_tags() -> list[str]:
    """Return the tags of WANDB_TAGS, which commas part, as long as the service takes them."""
    return [tag.strip()[:64] for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag.strip()]


def find_api_key() -> str | None:
    """Return the key of the environment or of ~/.netrc, if it looks like one."""
    key = os.environ.get("WANDB_API_KEY", "").strip()
    if not key:
        host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
        try:
            # where `wandb login` puts it
            entry = netrc.netrc().authenticators(host)
        except (OSError, netrc.NetrcParseError):
            entry = None
        key = entry[2] if entry else None
    return key if key and len(key) >= MIN_KEY_LENGTH else None
