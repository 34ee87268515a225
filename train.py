"""One run: compose, check, fit, evaluate, sample, record.

python train.py model=medium
"""

import sys
import time

try:
    import hydra
    from omegaconf import DictConfig

    from gptlab import compose as wiring
    from gptlab.config.command_line import describe_overruled_words
    from gptlab.config.places import TRAIN
    from gptlab.console.json_answer import add_to_answer
    from gptlab.runs.like import expand_like
    from gptlab.runs.malloc import keep_freed_memory
    from gptlab.runs.openmp import load_openmp
    from gptlab.runs.record import read_json
    from gptlab.runs.resume import describe_idle_outputs
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed here; run: make setup && . .venv/bin/activate")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    """Refuses what cannot run before lightning is imported, which takes two seconds; then runs."""
    began = time.monotonic()
    with wiring.program():
        recipe = wiring.recipe_of_main(config)
        from gptlab.corpus.load import read_corpus

        corpus = read_corpus(recipe)
        from lightning.pytorch.utilities import rank_zero_only

        from gptlab.training.run import run

        # once, however many processes run this same command
        if getattr(rank_zero_only, "rank", 0) == 0:
            for line in (*describe_overruled_words(sys.argv[1:]), *describe_idle_outputs(sys.argv[1:])):
                print(line, file=sys.stderr)
        folder = run(recipe, corpus, began, opened=lambda path: add_to_answer(run=path))
        if folder is not None:
            add_to_answer(summary=read_json(folder / "summary.json"))


if __name__ == "__main__":
    with wiring.program():
        load_openmp()
        keep_freed_memory()
        words = wiring.read_command_line(TRAIN)
        sys.argv[1:] = wiring.name_choices(expand_like(words, wiring.compose_config))
        main()
