"""The command `export`: a run's weights in another layout, or packed."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gptlab.commands.unfinished import announce_weights
from gptlab.compose import compose
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused
from gptlab.runs.resume import explain_no_run


class Layout(StrEnum):
    """What `export` writes."""

    hf = "hf"
    safetensors = "safetensors"
    gguf = "gguf"


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    to: Annotated[
        Layout | None,
        typer.Option(help="A folder that transformers opens, one file under our names, or one for llama.cpp."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="Packed weights, which sample opens: mxint8 or int8.")] = None,
    into: Annotated[Path | None, typer.Option(help="The new folder; without one, <run>/<layout or format>.")] = None,
) -> None:
    """Write a run's weights in another layout or packed, or say which of its parts that cannot express."""
    if (to is None) == (format is None):
        raise Refused("export takes one of --to and --format: --to hf, --to safetensors, --format mxint8")
    if not (run / "run.json").is_file():
        raise Refused(explain_no_run(run))
    announce_weights(run)
    if to is Layout.gguf:
        # late, here and below: torch and the writers take seconds, and --help needs none
        from gptlab.commands.formats.gguf import export_gguf

        written = export_gguf(run, into or run / "model.gguf", compose)
        print(written)
        add_to_answer(file=written)
    elif to is not None:
        from gptlab.commands.formats.huggingface import export_run as write

        written = write(run, to.value, into or run / to.value, compose)
        print(written)
        add_to_answer(folder=written)
    elif format is not None:
        from gptlab.commands.formats.packed import export_packed as pack

        folder = into or run / format
        facts = pack(run, format, folder, compose)
        share = facts["packed_bytes"] / facts["unpacked_bytes"]
        print(f"packed weights: {facts['packed_bytes']:,} bytes, {share:.3f} of float32", end="; ")
        print(f"with all that stays in floats {facts['bytes']:,}, on disk {facts['file_bytes']:,}")
        print(folder)
        add_to_answer(folder=folder, **facts)
