"""Labels of arms, and how a person calls an arm."""

from gptlab.errors import Refused


def named(wanted: str, labels: list[str]) -> str:
    """The arm that is meant by its whole name, or by values that only it has: gqa, or gqa,layernorm."""
    words = wanted.replace(",", " ").split()
    found = [one for one in labels if one == wanted] or [
        one for one in labels if all(map(parts(one).__contains__, words))
    ]
    if len(found) != 1:
        which = "is no arm of this study" if not found else f"may be {' or '.join(found)}"
        raise Refused(f"baseline={wanted} {which}; arms: {', '.join(labels)}")
    return found[0]


def parts(label: str) -> set[str]:
    """The words by which an arm can be called."""
    return {word for one in label.split() for word in (one, one.partition("=")[2])}
