"""Labels of arms, and how a user refers to an arm."""

from gptlab.errors import Refused


def find_arm(name: str, labels: list[str]) -> str:
    """Return the label that is `name`, or the only one that has all its values: gqa, or gqa,layernorm."""
    words = name.replace(",", " ").split()
    matches = [label for label in labels if label == name] or [
        label for label in labels if all(map(split_label(label).__contains__, words))
    ]
    if len(matches) != 1:
        problem = "is no arm of this study" if not matches else f"may be {' or '.join(matches)}"
        raise Refused(f"baseline={name} {problem}; arms: {', '.join(labels)}")
    return matches[0]


def split_label(label: str) -> set[str]:
    """Return the words by which an arm can be called."""
    return {word for part in label.split() for word in (part, part.partition("=")[2])}
