"""Report where arms differ from the baseline in what was to be matched."""

from typing import Any


def describe_mismatch(arms: dict[str, dict[str, Any]], baseline: str) -> list[str]:
    """Return a line for each quantity in which arms differ from the baseline, in percent."""
    lines = []
    for key, name in (
        ("params", "parameters"),
        ("tokens", "tokens"),
        ("flops", "training FLOPs"),
        ("seconds", "training time"),
    ):
        baseline_count = arms[baseline].get(key)
        if not baseline_count:
            continue
        deviations = {
            arm: counts[key] / baseline_count - 1 for arm, counts in arms.items() if arm != baseline and counts.get(key)
        }
        # below 0.05 % it would print as +0.0%
        if parts := [f"{arm} {value:+.1%}" for arm, value in deviations.items() if abs(value) >= 5e-4]:
            lines.append(f"{name} against {baseline}: {', '.join(parts)}")
    return lines
