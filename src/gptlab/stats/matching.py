"""What arms do not have alike."""

from typing import Any


def mismatch(arms: dict[str, dict[str, Any]], baseline: str) -> list[str]:
    """What the arms do not have alike with their baseline, in percent: parameters, tokens, training FLOPs, time."""
    told = []
    for key, name in (
        ("params", "parameters"),
        ("tokens", "tokens"),
        ("flops", "training FLOPs"),
        ("seconds", "training time"),
    ):
        there = arms[baseline].get(key)
        if not there:
            continue
        off = {arm: counts[key] / there - 1 for arm, counts in arms.items() if arm != baseline and counts.get(key)}
        if parts := [f"{arm} {value:+.1%}" for arm, value in off.items() if abs(value) >= 5e-4]:
            told.append(f"{name} against {baseline}: {', '.join(parts)}")
    return told
