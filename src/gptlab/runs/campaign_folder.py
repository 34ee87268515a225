"""A campaign's folder, outputs/campaigns/NAME: ledger.jsonl, a line an event, in which the order of questions is kept.

opened      the baseline's recipe and overrides, alpha
asked       a study: the numbers of its questions, its share of alpha, what earlier studies returned
confirming  which changes are judged by the part that was held back, on which seeds: once
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptlab.errors import Refused
from gptlab.runs.file_lock import try_lock
from gptlab.runs.record import append_line, to_json, utc_now

LOCK_ATTEMPTS = 200
"""Times 0.05 s: another process holds the lock while it compares a few studies."""


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
        events = []
        for line in self.ledger.read_text(encoding="utf-8").splitlines() if self.ledger.exists() else ():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:  # cut short by a kill
                continue
        return [event for event in events if kind in ("", event.get("event"))]

    def record_event(self, kind: str, **facts: Any) -> dict[str, Any]:
        """Add an event in one write, and return it."""
        self.path.mkdir(parents=True, exist_ok=True)
        event = {"event": kind, "at": utc_now(), **facts}
        append_line(self.ledger, to_json(event))
        return event

    def find_asked(self, study: str) -> dict[str, Any] | None:
        """Return the event with which a study was asked; None where it was not."""
        return next((event for event in self.read_events("asked") if event["study"] == study), None)

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
