"""One run: compose, check, fit, evaluate, sample, record.

python train.py model=medium
"""

import hydra
from omegaconf import DictConfig

from gptlab import wiring


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    """Refuses what cannot run before lightning is imported; then runs."""
    with wiring.entry():
        recipe = wiring.recipe(config)
        from gptlab.run import run

        run(recipe)


if __name__ == "__main__":
    with wiring.entry():
        main()
