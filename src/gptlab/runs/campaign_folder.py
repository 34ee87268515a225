"""A campaign's folder, outputs/campaigns/NAME: ledger.jsonl, a line an event, in which the order of questions is kept.

opened      the baseline's recipe and overrides, alpha
asked       a study: the numbers of its questions, its share of alpha, what earlier studies returned
confirming  which changes are judged by the part that was held back, on which seeds: once
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gptlab.config.typecheck import conforms
from gptlab.errors import Refused
from gptlab.runs.file_lock import try_lock
from gptlab.runs.record import read_json, to_json, utc_now
from gptlab.runs.study_folder import append_event

LOCK_ATTEMPTS = 200
"""Times 0.05 s: another process holds the lock while it compares a few studies."""

EVENTS: dict[str, dict[str, Any]] = {
    "opened": {"at": str, "baseline": str, "hash": str, "overrides": list[str], "config": dict[str, Any]},
    "asked": {"study": str, "first": int, "count": int, "alpha": float, "returned": dict[str, float]},
    "confirming": {"at": str, "shared": list[str], "arms": dict[str, list[str]], "seeds": list[int]},
}
"""Types of what is read of each kind of event."""


class CampaignFolder:
    """One campaign's folder."""

    def __init__(self, outputs: Path, name: str) -> None:
        if not name or name.startswith(".") or {*name} & {*"/\\\0"} or len(name.encode()) > 128:
            shown = name if len(name) <= 128 else f"{name[:20]}..."
            raise Refused(f"campaign={shown} is no name of one folder; give letters, digits, - and _")
        self.name = name
        self.outputs = outputs.absolute()
        self.path = self.outputs / "campaigns" / name

    @property
    def ledger(self) -> Path:
        """The file of events."""
        return self.path / "ledger.jsonl"

    def read_events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return all events that are whole, or those of a kind, in their order."""
        text = self.ledger.read_text(encoding="utf-8", errors="replace") if self.ledger.exists() else ""
        # one that a kill cut short was not acted upon
        lines = [line for line in text.splitlines() if line and not (line.startswith("{") and not line.endswith("}"))]
        events = [self._read_event(line) for line in lines]
        return [event for event in events if kind in ("", event["event"])]

    def _read_event(self, line: str) -> dict[str, Any]:
        """Return an event; refuse a line that is none, since a question that is lost would give its alpha back."""
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            event = None
        fields: dict[str, Any] = event if isinstance(event, dict) else {}
        types = EVENTS.get(str(fields.get("event")))
        if types is None or any(key not in fields or not conforms(fields[key], types[key]) for key in types):
            raise Refused(f"{self.ledger}: {line[:40]}... is no event of a campaign; put a copy of the file back")
        return fields

    def record_event(self, kind: str, **facts: Any) -> dict[str, Any]:
        """Add an event in one write, and return it."""
        self.path.mkdir(parents=True, exist_ok=True)
        event = {"event": kind, "at": utc_now(), **facts}
        append_event(self.ledger, to_json(event))
        return event

    def find_asked(self, study: str) -> dict[str, Any] | None:
        """Return the event with which a study was asked; None where it was not."""
        return next((event for event in self.read_events("asked") if event["study"] == study), None)

    def refuse_lost_events(self) -> None:
        """Refuse a ledger that lacks what studies of its pool say of it: an alpha that was spent would be spent again.

        It has a question before the study has a folder, so that a kill leaves no such one.
        """
        asked = {event["study"] for event in self.read_events("asked")}
        lost = [study for study in self._list_studies() if study not in asked]
        confirmation = self.outputs / "ablations" / f"{self.name}-confirm" / "study.json"
        if not self.read_events("confirming") and confirmation.exists():
            lost.append(confirmation.parent.name)
        if lost:
            raise Refused(
                f"campaign={self.name}: {self.ledger} does not have {lost[0]}, a study that was asked in it; put a "
                "copy of the file back"
            )

    def _list_studies(self) -> list[str]:
        """Return the studies of the pool whose plans name this campaign."""
        names = []
        for file in sorted((self.outputs / "ablations").glob("*/study.json")):
            with suppress(Refused, OSError):  # a damaged plan is refused where its study is asked for
                if read_json(file).get("campaign") == self.name:
                    names.append(file.parent.name)
        return names

    def count_questions(self) -> int:
        """Return how many comparisons have been asked of the validation tokens."""
        return sum(event["count"] for event in self.read_events("asked"))

    @contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Hold the campaign's lock, so that two studies never take the same question; waits for another process."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / "campaign.lock"
        with path.open("a+") as file:
            for _ in range(LOCK_ATTEMPTS):
                if try_lock(file, path):
                    break
                time.sleep(0.05)
            else:
                raise Refused(f"campaign={self.name}: another process holds {path}; try again when it has ended")
            yield
