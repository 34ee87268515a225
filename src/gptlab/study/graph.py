"""The decoder as torch.export sees it: a graph of operators, in the order in which they run.

logits, loss    operators without and with targets; what only the one or the other has is in the study's folder by name
edges           results that one operator takes from another
erased users    of the operator that is taken out, as a demonstration; see below

An operator that others use cannot be erased: torch.fx raises. It goes after `replace_all_uses_with` has given its users
something of the same shape. Here the first operator of several users whose input has its shape is taken out, usually
the first norm, and `erased RMSE` says how far that moves the logits.

graph-<arm>.svg    the graph with targets: operators in a column by the part they belong to, edges as arcs
graph-<arm>.txt    the difference of both graphs, the error, and what was done about it
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.runs.record import write_atomically
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study, vocabulary
from gptlab.study.tools.arc_diagram import arcs

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node

    from gptlab.model.decoder import Decoder


class Graphed(Study):
    """length: of the tokens that are traced. vocab: null is that of the recipe's text."""

    def __init__(self, *, length: int = 16, vocab: int | None = None) -> None:
        for name, least, value in (("length", 2, length), ("vocab", 2, vocab)):
            if value is not None and value < least:
                raise ValueError(f"{name}={value} is less than {least}; give {least} or more")
        self.length, self.vocab = length, vocab

    def check(self, arms: dict[str, Recipe]) -> None:
        for name, recipe in arms.items():
            if self.length > (context := recipe.settings.model.context):
                raise Refused(
                    f"{name}: study.length={self.length} is more than model.context={context}; give {context}"
                )

    def __call__(self, arms: dict[str, Recipe], block: int, build: Build, folder: Path) -> list[Row]:
        rows = []
        for number, (name, recipe) in enumerate(arms.items()):
            decoder = build(recipe, vocabulary(recipe, self.vocab)).eval()
            plain, scored = traced(decoder, self.length, targets=False), traced(decoder, self.length, targets=True)
            here, there = operators(plain.graph), operators(scored.graph)
            only = {"logits": [*here.keys() - there.keys()], "loss": [*there.keys() - here.keys()]}
            edges = [(one.name, user.name) for one in there.values() for user in one.users if user.name in there]
            write_atomically(
                folder / f"graph-{number}.svg", arcs({node: told(one) for node, one in there.items()}, edges)
            )
            found, lines = erased(plain, decoder.shape.vocab, self.length)
            lines = [
                f"{name}: {recipe.hash}",
                *(f"only with {what}: {sorted(names)}" for what, names in only.items()),
                *lines,
            ]
            write_atomically(folder / f"graph-{number}.txt", "\n".join(lines) + "\n")
            counts = {"logits": len(here), "loss": len(there), "edges": len(edges)}
            counts |= {f"only {what}": len(names) for what, names in only.items()}
            rows += [Row(name, block, metric, value) for metric, value in {**counts, **found}.items()]
        return rows


def traced(decoder: "Decoder", length: int, targets: bool) -> "GraphModule":
    """Logits of tokens (1, T), or their loss."""
    import torch

    tokens = torch.zeros(1, length, dtype=torch.long)
    with torch.no_grad():
        given = (tokens, tokens) if targets else (tokens,)
        made: Any = torch.export.export(decoder, given, strict=False).module()
    return made


def operators(graph: "Graph") -> "dict[str, Node]":
    """What computes, by name; inputs, weights and the output do not."""
    return {node.name: node for node in graph.nodes if node.op == "call_function"}


def told(node: "Node") -> tuple[str, str, str]:
    """The part of the decoder that it belongs to, its operator, and the shape of what it gives."""
    stack = [*node.meta.get("nn_module_stack", {}).values()]
    shape = getattr(node.meta.get("val"), "shape", ())
    does = getattr(node.target, "__name__", str(node.target)).split(".")[0]  # getitem is Python's, without a namespace
    return str(stack[-1][0]) if stack else "", does, " x ".join(map(str, shape))


def erased(made: "GraphModule", vocab: int, length: int) -> tuple[dict[str, float], list[str]]:
    """Takes an operator out, the wrong way first."""
    import torch

    tokens = torch.randint(vocab, (1, length), generator=torch.Generator().manual_seed(0))
    victim = next((one for one in operators(made.graph).values() if len(one.users) > 1 and alike(one)), None)
    if victim is None:
        return {}, ["no operator has several users and an input of its own shape: none is erased"]
    with torch.no_grad():
        before, name, users = made(tokens).logits, victim.name, len(victim.users)
        try:
            made.graph.erase_node(victim)
            raise AssertionError(f"{name} was erased under {users} users")
        except RuntimeError as error:
            line = " ".join(str(error).split())
        source: Any = victim.args[0]
        victim.replace_all_uses_with(source)
        made.graph.erase_node(victim)
        made.graph.lint()
        made.recompile()
        moved = (made(tokens).logits - before).square().mean().sqrt().item()
    lines = [
        f"erase_node({name}): RuntimeError: {line[:300]}",
        f"{name}.replace_all_uses_with({source.name}), then erase_node({name}): done; RMSE of the logits {moved:.4g}",
    ]
    return {"erased users": users, "erased RMSE": moved}, lines


def alike(node: "Node") -> bool:
    """True if what it gives has the shape of its first input."""
    first = node.args[0] if node.args else None
    shapes = [getattr(getattr(one, "meta", {}).get("val"), "shape", None) for one in (node, first)]
    return shapes[0] is not None and shapes[0] == shapes[1]
