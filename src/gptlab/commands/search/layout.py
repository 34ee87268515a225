"""Layout of matrices in a file: (out, in) as nn.Linear has them, or (in, out) as GPT-2's Conv1D.

Those that are not square tell by their shape; and a file is mostly of one kind, so they tell for the square ones too.
"""

from dataclasses import replace

from gptlab.weights.pretrained.mapping import Entry, Mapping, Shapes, match_entries

TABLES = ("embedding.weight", "position.table.weight", "readout.head.weight")
"""Rows by token or place, in every file."""
ROTATED = ("q", "k", "q_norm", "k_norm")
"""Projections whose features rope pairs."""


def complete_layout(
    mapping: Mapping, source: Shapes, wanted: Shapes, head: int, *, opposite: bool, by_head: bool, interleaved: bool
) -> Mapping:
    """Return a mapping that leaves nothing open.

    opposite     square matrices lie the other way than the rest
    by_head      q, k, v of one head stand together
    interleaved  rope pairs neighbours
    """
    entries = {entry.source: (entry, source[name], to) for name, (entry, to) in match_entries(mapping, source).items()}
    votes = 0
    for entry, shape, to in entries.values():
        if to[0] not in TABLES:
            votes += _orientation(_squeeze_shape(entry, shape), _stack_shapes(to, wanted))
    in_first = votes > 0
    completed = []
    for entry, shape, to in entries.values():
        whole = _stack_shapes(to, wanted)
        lies = _orientation(_squeeze_shape(entry, shape), whole)
        # a shape that tells is believed; a square one follows the others
        turned = lies > 0 or (lies == 0 and in_first != opposite)
        # a target that the decoder has not is refused by apply_mapping, with all other problems
        parts = tuple(wanted[target][0] if target in wanted else 0 for target in to)
        is_permuted = interleaved and any(name.split(".")[-2] in ROTATED for name in to)
        completed.append(
            replace(
                entry,
                axis=0,
                sizes=parts if len(to) > 1 else None,
                transpose=turned and len(whole) == 2 and to[0] not in TABLES,
                interleaved=by_head and holds_qkv(entry.to),
                permute="rope_i2h" if is_permuted else "none",
            )
        )
    return replace(mapping, entries=tuple(completed), head=head)


def holds_qkv(targets: tuple[str, ...]) -> bool:
    """Whether a source holds queries, keys and values."""
    return len(targets) > 1 and all(".attention." in target for target in targets)


def _squeeze_shape(entry: Entry, shape: tuple[int, ...]) -> tuple[int, ...]:
    if entry.squeeze is None:
        return shape
    axis = entry.squeeze % len(shape)
    return shape[:axis] + shape[axis + 1 :]


def _stack_shapes(targets: list[str], wanted: Shapes) -> tuple[int, ...]:
    """Return the shape of a source's targets, one under the other."""
    shapes = [wanted.get(target, (0,)) for target in targets]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _orientation(shape: tuple[int, ...], whole: tuple[int, ...]) -> int:
    """Return 1 for (in, out), -1 for (out, in), 0 if the shape does not tell."""
    if len(shape) != 2 or shape == shape[::-1]:
        return 0
    return 1 if shape == whole[::-1] else -1
