"""One study: plan, bill, run what is missing, compare.

python ablate.py attention=gqa,swa,mha
"""

import sys
from pathlib import Path

try:
    import hydra
    from omegaconf import DictConfig

    from gptlab import compose as wiring
    from gptlab.ablation.arms.typed import quote_typed_arms
    from gptlab.config.places import ABLATE
    from gptlab.runs.like import expand_like
    from gptlab.runs.malloc import keep_freed_memory
    from gptlab.runs.openmp import load_openmp
    from gptlab.runs.parent_process import stop_with_asker
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed here; run: make setup && . .venv/bin/activate")


@hydra.main(version_base="1.3", config_path="conf", config_name="ablate")
def main(config: DictConfig) -> None:
    """One cell, wherever a launcher put it. The study itself is at work in hydra's sweeper: src/hydra_plugins."""
    from gptlab.ablation.worker import run_cell

    run_cell(Path(config.cell))


if __name__ == "__main__":
    with wiring.program():
        stop_with_asker()
        load_openmp()
        keep_freed_memory()
        words = wiring.read_command_line(ABLATE)
        sys.argv[1:] = expand_like(quote_typed_arms(words), wiring.compose_config)
        if not any(word.startswith("-") for word in sys.argv[1:]):
            sys.argv.append("--multirun")  # ablate.yaml says so too, but hydra reads that only where nothing is wrong
        main()
