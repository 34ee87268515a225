"""The decoder as torch.export sees it: a graph of operators, in the order in which they run.

logits, loss    operators without and with targets; what only one of them has is in the study's folder, by name
edges           results that one operator takes from another
erased users    of the operator that is erased, as a demonstration; see below

An operator that others use cannot be erased: torch.fx raises. It can after `replace_all_uses_with` has given its users
something of the same shape. Here the first operator of several users whose input has its shape is erased, usually the
first norm, and `erased RMSE` says how far that moves the logits.

graph-<arm>.svg    the graph with targets: operators in a column by the part they belong to, edges as arcs
graph-<arm>.txt    the difference of both graphs, the error, and what was done about it
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptlab.config.recipe import Recipe
from gptlab.errors import Refused
from gptlab.runs.record import write_atomically
from gptlab.stats.measurements import Row
from gptlab.study import Build, Study, get_vocab_size
from gptlab.study.tools.arc_diagram import render_arc_diagram

if TYPE_CHECKING:
    from torch.fx import Graph, GraphModule, Node

    from gptlab.model.decoder import Decoder


class Graphed(Study):
    """Count, draw and edit the operator graph of each arm.

    length  number of tokens that are traced
    vocab   vocabulary size; null is that of the recipe's text
    """

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
            decoder = build(recipe, get_vocab_size(recipe, self.vocab)).eval()
            logits_graph = trace_graph(decoder, self.length, targets=False)
            loss_graph = trace_graph(decoder, self.length, targets=True)
            logits_nodes, loss_nodes = find_operators(logits_graph.graph), find_operators(loss_graph.graph)
            only = {
                "logits": [*logits_nodes.keys() - loss_nodes.keys()],
                "loss": [*loss_nodes.keys() - logits_nodes.keys()],
            }
            edges = []
            for node in loss_nodes.values():
                edges += [(node.name, user.name) for user in node.users if user.name in loss_nodes]
            labels = {label: describe_node(node) for label, node in loss_nodes.items()}
            write_atomically(folder / f"graph-{number}.svg", render_arc_diagram(labels, edges))
            erasure, lines = erase_operator(logits_graph, decoder.shape.vocab, self.length)
            lines = [
                f"{name}: {recipe.hash}",
                *(f"only with {graph}: {sorted(names)}" for graph, names in only.items()),
                *lines,
            ]
            write_atomically(folder / f"graph-{number}.txt", "\n".join(lines) + "\n")
            counts = {"logits": len(logits_nodes), "loss": len(loss_nodes), "edges": len(edges)}
            counts |= {f"only {graph}": len(names) for graph, names in only.items()}
            rows += [Row(name, block, metric, value) for metric, value in {**counts, **erasure}.items()]
        return rows


def trace_graph(decoder: "Decoder", length: int, targets: bool) -> "GraphModule":
    """Return the exported module from tokens (1, T) to their logits, or with targets to their loss."""
    import torch

    # export reads their shape alone
    tokens = torch.zeros(1, length, dtype=torch.long)
    with torch.no_grad():
        inputs = (tokens, tokens) if targets else (tokens,)
        # strict=False traces by running, where dynamo would have to understand the Python
        module: Any = torch.export.export(decoder, inputs, strict=False).module()
    return module


def find_operators(graph: "Graph") -> "dict[str, Node]":
    """Return the nodes that compute, by name, without inputs, weights and the output."""
    return {node.name: node for node in graph.nodes if node.op == "call_function"}


def describe_node(node: "Node") -> tuple[str, str, str]:
    """Return the part of the decoder that a node belongs to, its operator, and the shape of its result."""
    stack = [*node.meta.get("nn_module_stack", {}).values()]
    shape = getattr(node.meta.get("val"), "shape", ())
    # "add.Tensor" is add; getitem is Python's, without a namespace
    operator = getattr(node.target, "__name__", str(node.target)).split(".")[0]
    return str(stack[-1][0]) if stack else "", operator, " x ".join(map(str, shape))


def erase_operator(module: "GraphModule", vocab: int, length: int) -> tuple[dict[str, float], list[str]]:
    """Erase an operator that others use, first without replacing its uses, which raises.

    Returns metrics, and lines for the text file.
    """
    import torch

    tokens = torch.randint(vocab, (1, length), generator=torch.Generator().manual_seed(0))
    nodes = find_operators(module.graph).values()
    # of its input's shape, so that the input can take its place
    target = next((node for node in nodes if len(node.users) > 1 and keeps_input_shape(node)), None)
    if target is None:
        return {}, ["no operator has several users and an input of its own shape: none is erased"]
    with torch.no_grad():
        logits, name, users = module(tokens).logits, target.name, len(target.users)
        try:
            module.graph.erase_node(target)
            # the demonstration is that torch refuses; if it ever does not, the head of this file is wrong
            raise AssertionError(f"{name} was erased under {users} users")
        except RuntimeError as error:
            line = " ".join(str(error).split())
        source: Any = target.args[0]
        target.replace_all_uses_with(source)
        module.graph.erase_node(target)
        module.graph.lint()
        module.recompile()
        rmse = (module(tokens).logits - logits).square().mean().sqrt().item()
    lines = [
        f"erase_node({name}): RuntimeError: {line[:300]}",
        f"{name}.replace_all_uses_with({source.name}), then erase_node({name}): done; RMSE of the logits {rmse:.4g}",
    ]
    return {"erased users": users, "erased RMSE": rmse}, lines


def keeps_input_shape(node: "Node") -> bool:
    """Return True if the node's result has the shape of its first input."""
    first = node.args[0] if node.args else None
    shapes = [getattr(getattr(result, "meta", {}).get("val"), "shape", None) for result in (node, first)]
    return shapes[0] is not None and shapes[0] == shapes[1]
