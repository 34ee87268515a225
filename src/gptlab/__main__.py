"""Commands for runs after they ran, and for choices before."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gptlab.ablation.protocol.commands import add_commands
from gptlab.commands import programs
from gptlab.commands.card import card
from gptlab.commands.check import check
from gptlab.commands.compare import compare, judge
from gptlab.commands.complete import complete_override, complete_slot
from gptlab.commands.decisions import decisions
from gptlab.commands.evaluate import evaluate
from gptlab.commands.export import export
from gptlab.commands.report import report, sync
from gptlab.compose import compose, program
from gptlab.config.menu import TRAIN
from gptlab.console.json_answer import add_to_answer
from gptlab.errors import Refused
from gptlab.runs.malloc import keep_freed_memory
from gptlab.runs.openmp import load_openmp

HELP = f"{__doc__} Each takes --json: one object on stdout."
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=HELP)
add_commands(app)


class CheckpointName(StrEnum):
    """A run's checkpoints."""

    last = "last"
    best = "best"


class FullContext(StrEnum):
    """What becomes of a text that is longer than the context."""

    crop = "crop"
    slide = "slide"
    refuse = "refuse"


Folder = Annotated[Path, typer.Argument(help="A run folder.")]


@app.command()
def sample(
    run: Folder,
    prompt: Annotated[str | None, typer.Option(help="The text to continue; without one, a new line.")] = None,
    length: Annotated[int, typer.Option(min=1, max=10_000_000, help="Tokens to write.")] = 500,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw from the k likeliest.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Draw from the likeliest that reach p.")] = None,
    repetition: Annotated[float, typer.Option(help="Above 1, what was said is less likely.")] = 1.0,
    stop: Annotated[str | None, typer.Option(help="End after any of the tokens of this text.")] = None,
    beyond: Annotated[
        FullContext, typer.Option(help="A full context: read its half again, slide, or refuse.")
    ] = FullContext.crop,
    draft: Annotated[
        Path | None, typer.Option(help="A smaller run that guesses, or self: the same chances, sooner.")
    ] = None,
    guesses: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Tokens guessed at once: 4, of self its readout.mtp.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed writes the same text.")] = 0,
    which: Annotated[
        CheckpointName, typer.Option(help="The weights at the end, or those judged best on the way.")
    ] = CheckpointName.last,
) -> None:
    """Write text as a run's model would, as it comes."""
    # typer's range has 0 in it: it knows no open ends
    if top_p == 0:
        raise Refused("--top-p=0 leaves no token to draw; try 0.9")
    from gptlab.commands.sample import DraftOptions, print_texts, report_guesses, stream_text
    from gptlab.commands.unfinished import announce_weights

    announce_weights(run, which.value)
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    drafted = None if draft is None else DraftOptions("self" if str(draft) == "self" else draft, guesses)
    texts = stream_text(
        run,
        which.value,
        prompt,
        length=length,
        draft=drafted,
        stop=stop,
        beyond=beyond.value,
        repetition=repetition,
        sampling=how,
    )
    add_to_answer(prompt=prompt, text=print_texts(prompt or "", texts))
    if drafted is not None:
        add_to_answer(draft=report_guesses(drafted.counts))


@app.command()
def runs(outputs: Annotated[Path, typer.Option(help="Where runs live.")] = Path("outputs")) -> None:
    """List all runs, the best first."""
    from gptlab.commands.runs import print_runs

    print_runs(outputs)


@app.command()
def status(study: Annotated[Path, typer.Argument(help="A study's folder: outputs/ablations/<name>.")]) -> None:
    """Tell where a study stands, from any terminal, while it runs or after."""
    from rich.console import Console

    from gptlab.ablation import progress as overview
    from gptlab.runs.study_folder import StudyFolder

    if not (study / "study.json").exists():
        raise Refused(f"{study} is no study: it holds no study.json; studies live in outputs/ablations")
    overview.print_study_state(StudyFolder(study), Console(highlight=False))
    add_to_answer(study=study, cells=overview.list_cell_states(StudyFolder(study)))


app.command()(compare)
app.command()(judge)
app.command()(decisions)


@app.command()
def serve(
    outputs: Annotated[Path, typer.Argument(help="Where runs and studies live.")] = Path("outputs"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 0,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Show all runs and studies on a live page of this machine, until Ctrl-C."""
    from gptlab.ablation.progress import describe_study
    from gptlab.commands.live.server import serve_outputs

    serve_outputs(outputs, port, describe_study, open_it)


@app.command()
def diff(
    checkpoint: Annotated[str, typer.Argument(help="A folder in Hugging Face's layout.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="What is done otherwise, as norm.eps=1e-3.")] = None,
) -> None:
    """Run a checkpoint here and in transformers, and name the first block and tensor that differ."""
    from gptlab.commands.diff import print_diff

    same = print_diff(checkpoint, overrides or [], compose)
    add_to_answer(same=same)
    if not same:
        raise typer.Exit(1)


app.command()(evaluate)
app.command()(export)
app.command()(check)
app.command()(card)
app.command()(report)
app.command()(sync)


@app.command()
def explain(
    choice: Annotated[
        str,
        typer.Argument(
            help="slot=choice, as in attention=mla; a slot alone lists its choices.", autocompletion=complete_override
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="At which size, and what else differs: model=mini attention.kv_heads=2",
            autocompletion=complete_override,
        ),
    ] = None,
) -> None:
    """Tell what a choice is: file, source, formula, knobs, and what it costs beside its slot's default."""
    from gptlab.commands.explain import print_explanation

    print_explanation(choice, overrides or [], compose)


@app.command()
def slots(
    word: Annotated[str, typer.Argument(help="Only what has it in its name or its line.")] = "",
    search: Annotated[str, typer.Option(help="The same; of several words all must be there: 'rope layers'.")] = "",
) -> None:
    """List all that a command can say: slots, choices, knobs, settings; * is a default."""
    from rich.console import Console

    from gptlab.ablation.options import StudyOptions
    from gptlab.commands.slots import describe_menu, print_menu

    wanted = f"{word} {search}".strip()
    menu = describe_menu(StudyOptions, wanted)
    print_menu(menu, Console(highlight=False))
    if not any(menu.values()):
        typer.echo(f"nothing has {wanted} in its name or its line; gptlab slots lists all", err=True)
    add_to_answer(**menu)


@app.command()
def schema(to: Annotated[Path, typer.Option(help="A folder for them.")] = Path("schemas")) -> None:
    """Write a JSON schema for every YAML of the menu, also of registered packages: editors complete and check by it."""
    from gptlab.ablation.options import StudyOptions
    from gptlab.commands.schema import make_schemas, write_schemas

    write_schemas(make_schemas(StudyOptions), to)
    print(to)
    add_to_answer(folder=to)


@app.command()
def search(
    weights: Annotated[Path, typer.Argument(help="A file of weights, or a folder with one.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="What to begin with: model.heads=1 mlp=gelu")] = None,
    mapping: Annotated[Path, typer.Option(help="From their names to ours.")] = Path("keys_mapping.json"),
    examples: Annotated[Path, typer.Option(help="inputs and outputs of the original.")] = Path("examples.safetensors"),
    known: Annotated[list[str] | None, typer.Option(help="What is not to be searched, such as eps.")] = None,
    to: Annotated[Path | None, typer.Option(help="A folder for pretrained=mapped.")] = None,
) -> None:
    """Find what the shapes of a checkpoint do not tell, such as its heads: asks every guess for given examples."""
    from rich.console import Console

    from gptlab.commands.search import solve

    words = overrides or []
    console = Console(highlight=False)
    files = {"mapping": mapping, "examples": examples}
    search, best = solve.solve_checkpoint(weights, words, **files, known=known or [], compose=compose, console=console)
    add_to_answer(overrides=search.make_overrides(best))
    print(*(f"{key}={value}" for key, value in search.make_overrides(best).items()))
    if to is not None:
        solve.write_checkpoint(search, best, words, to)
        print(f"{TRAIN} pretrained=mapped pretrained.path={to}")


@app.command()
def new(
    slot: Annotated[
        str, typer.Argument(help="Where: attention, position, norm, mlp, ...", autocompletion=complete_slot)
    ],
    name: Annotated[str, typer.Argument(help="What it will be called: my_idea")],
    package: Annotated[str, typer.Option(help="A package of your own, below this folder; else gptlab itself.")] = "",
) -> None:
    """Begin a variant: write a class that works and its YAML, and run the laws on it."""
    from gptlab.commands.new import print_new_variant, refuse_bad_name

    refuse_bad_name(slot, name, package)
    defaults = compose([])
    # a list slot, such as callback, has no choice but the names in its list, perhaps none
    if not print_new_variant(slot, name, defaults.choices.get(slot) or list(defaults.config[slot]), package):
        raise typer.Exit(1)


for command in (programs.train, programs.ablate):
    app.command(context_settings=programs.WORDS_OF_HYDRA)(command)


def main() -> None:
    """Run the command of the command line."""
    if len(sys.argv) > 1 and sys.argv[1] in programs.PROGRAMS:
        # train and ablate do all this by themselves
        app()
        return
    with program():
        load_openmp()
        keep_freed_memory()
        run_app()


USAGE_ERROR: Any = typer.BadParameter.__base__
"""What an option or an argument is that does not fit: click's class, which newer releases of typer hold themselves."""


def run_app() -> None:
    """Run the command; refuse in one line what does not fit it, where typer draws a frame."""
    if len(sys.argv) < 2:
        app()  # the help
    try:
        status = app(standalone_mode=False)
    except USAGE_ERROR as error:
        line = " ".join(error.format_message().split()).rstrip(".")
        raise Refused(f"{line}; see {error.ctx.command_path if error.ctx else 'gptlab'} --help") from error
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
