"""What only a GPU can tell, in about ten minutes: tests, speed, waits, CUDA graphs, cells a GPU, seeds, attentions.

    python benchmarks/gpu.py                           # writes gpu.json, and a table for docs/devices.md
    python benchmarks/gpu.py tests speed to=h100.json  # these sections alone
    python benchmarks/gpu.py speed nanogpt=FOLDER      # beside nanoGPT's model.py and optimizer

GPT-2 124M here has 50,304 rows of embedding and head (vocab_multiple), whatever text is at hand. A section that fails,
or an arm of one, is a line in the table, and the others go on. After `minutes=10` nothing further is begun.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_sections.arms import OPTIONS, Result, is_time_up, run_section
from gpu_sections.bench import name_device
from gpu_sections.programs import measure_cells, measure_cuda_graphs, run_tests
from gpu_sections.steps import check_synchronization, measure_attentions, measure_speed, measure_stacked_seeds

SECTIONS: dict[str, Callable[[], Result]] = {
    "tests": run_tests,
    "speed": measure_speed,
    "syncs": check_synchronization,
    "graph": measure_cuda_graphs,
    "cells": measure_cells,
    "seeds": measure_stacked_seeds,
    # last, as each of them compiles
    "attentions": measure_attentions,
}


def format_table(document: dict[str, Any]) -> str:
    """Return the Markdown table for docs/devices.md."""
    lines = [f"| {document['device']}, torch {document['torch']} | | |", "| :-- | :-- | :-- |"]
    for section, result in document["sections"].items():
        for name, value in result.items():
            lines.append(f"| {section} | {name} | {format_value(value)} |")
    return "\n".join(lines)


def format_value(value: Any) -> str:
    """Return a cell of the table."""
    if isinstance(value, dict):
        if "failed" in value:
            return f"failed: {value['failed']}"
        used = f", {value['mfu']:.1%} MFU" if value.get("mfu") else ""
        used += f", {value['gigabytes']:.1f} GB" if value.get("gigabytes") else ""
        used += f", samples {value['samples_s']:.2f} s" if value.get("samples_s") else ""
        return f"{value['ms']:.1f} ms, {value['tokens_per_s']:,.0f} tokens/s{used}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main(words: list[str]) -> None:
    """Run the sections, and write what they say after each."""
    chosen = [word for word in words if "=" not in word] or [*SECTIONS]
    if unknown := [word for word in chosen if word not in SECTIONS]:
        sys.exit(f"error: {unknown[0]} is no section; choose from {', '.join(SECTIONS)}")
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: torch sees no GPU here, and nothing was measured; run benchmarks/gpu.py where there is one")
    OPTIONS.update((word.partition("=")[0], word.partition("=")[2]) for word in words if "=" in word)
    document: dict[str, Any] = {"device": name_device(), "torch": torch.__version__, "sections": {}}
    path = Path(OPTIONS.get("to", "gpu.json"))
    for name in chosen:
        late = is_time_up()
        document["sections"][name] = {"skipped": "the time was up"} if late else run_section(SECTIONS[name])
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(format_table(document))


if __name__ == "__main__":
    main(sys.argv[1:])
