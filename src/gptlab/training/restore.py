"""Run folder to decoder and tokenizer. Weights-only; no hydra, no corpus."""

from pathlib import Path

from gptlab.config.factory import check_node, locate
from gptlab.config.recipe import PARTS, Recipe, check_settings
from gptlab.corpus.tokenizer import Tokenizer
from gptlab.errors import Refused
from gptlab.model.decoder import Decoder
from gptlab.runs.checkpoint import extract_decoder_weights, load_checkpoint
from gptlab.runs.record import REMEDY, read_json, read_recipe
from gptlab.runs.resume import explain_no_run
from gptlab.training.build import build_uninitialized


def load_run(run: str | Path, which: str = "last") -> tuple[Decoder, Tokenizer]:
    """Return a run's decoder, in eval mode on the CPU, and its tokenizer. `which` is last or best."""
    folder = Path(run)
    if not (folder / "run.json").exists():
        raise Refused(explain_no_run(folder))
    path = folder / "checkpoints" / f"{which}.ckpt"
    if not path.exists():
        names = sorted(checkpoint.stem for checkpoint in path.parent.glob("*.ckpt"))
        others = ", ".join(names) or "none at all"
        raise Refused(f"{folder} has no checkpoint `{which}`; it has {others} (keep=all leaves all when a run is over)")
    recipe = read_recipe(folder)
    # the decoder's parts only: a run whose data or metric is gone can still be sampled
    nodes = {slot: recipe.config[slot] for slot in (*PARTS, "parametrization")}
    nodes |= {f"change.{name}": node for name, node in recipe.config["change"].items()}
    problems = check_settings(recipe.config)
    for name, node in nodes.items():
        problems += check_node(node, name)
    if problems:
        facts = read_json(folder / "run.json")
        raise Refused(
            f"{folder} was made by another gptlab ({problems[0]}); load it with that of commit "
            f"{facts.get('git') or 'unknown'}"
        )
    tokenizer = restore_tokenizer(recipe, folder / "tokenizer.json")
    decoder = build_uninitialized(recipe, tokenizer.vocab)
    try:
        # mapped: weights are copied from the file as they are read, never held twice
        decoder.load_state_dict(extract_decoder_weights(load_checkpoint(path, mapped=True)))
    except Exception as error:  # a torn file may fail in any way
        raise Refused(
            f"{path} cannot be read ({type(error).__name__}); try another of the run's checkpoints"
        ) from error
    return decoder.eval(), tokenizer


def restore_tokenizer(recipe: Recipe, path: Path) -> Tokenizer:
    """Return the tokenizer of a run from the file that holds its state."""
    kind = locate(recipe.config["tokenizer"]["_target_"], "tokenizer")
    try:
        return kind.restore(read_json(path))  # type: ignore[attr-defined]
    except (Refused, OSError):
        raise
    except Exception as error:  # a damaged state may fail in any way
        raise Refused(f"{path} is not as it was written ({error!r}); {REMEDY}") from error
