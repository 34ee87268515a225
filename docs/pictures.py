"""The README's pictures, made from runs that really happen: python docs/pictures.py [overrides of train.py]

terminal.svg is what a terminal shows, by way of a terminal emulator (pyte); loss.svg is drawn from metrics.jsonl;
ablation.svg is a study, report.png its page in Chromium, leet.svg all runs in W&B's own terminal.
Needs: pip install -e '.[pictures]', and chromium
"""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt
import pyte
from rich.console import Console
from rich.text import Text

from gptlab.runs.record import read_rows

DOCS = Path(__file__).parent
COLUMNS, LINES = 132, 78
STUDY = ["attention=gqa,swa,mha"]


def run_in_terminal(command: list[str]) -> tuple[pyte.Screen, pyte.Screen]:
    """Run a command in a terminal; return its screen after five evaluations, with the bar, and at the end."""
    screen, middle = pyte.Screen(COLUMNS, LINES), pyte.Screen(COLUMNS, LINES)
    stream, early = pyte.ByteStream(screen), pyte.ByteStream(middle)
    mine, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment, cwd=DOCS.parent)
    os.close(theirs)
    evaluations = 0
    while True:
        try:
            output = os.read(mine, 65536)
        except OSError:  # the other end is closed
            break
        stream.feed(output)
        evaluations += output.count(b"val ")
        if evaluations < 6:
            early.feed(output)
    process.wait()
    return middle, screen


def show_for(command: list[str], seconds: float) -> pyte.Screen:
    """Return the screen of a program that stays, after some seconds; q ends it."""
    screen = pyte.Screen(COLUMNS, 40)
    stream = pyte.ByteStream(screen)
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment, cwd=DOCS.parent)
    os.close(theirs)
    end = time.time() + seconds
    while time.time() < end:
        if select.select([mine], [], [], 0.2)[0]:
            stream.feed(os.read(mine, 65536))
    os.write(mine, b"q")
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
    return screen


def take_screenshot(page: Path, path: Path, width: int = 1100, height: int = 1900) -> None:
    """Save the top of a page, as Chromium draws it."""
    look = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}"]
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", *look, f"--user-data-dir={profile}", "--virtual-time-budget=15000"]
        subprocess.run([*command, f"--screenshot={path}", page.absolute().as_uri()], check=True, capture_output=True)


def draw_screen(screen: pyte.Screen, title: str, path: Path, until: str = "") -> None:
    """Save a screen as SVG, up to a line that begins with `until`."""
    lines: list[Text] = []
    for y in range(screen.lines):
        line = Text()
        for look, characters in groupby([screen.buffer[y][x] for x in range(COLUMNS)], describe_style):
            line.append("".join(character.data for character in characters), look)
        if until and line.plain.strip().startswith(until):
            break
        lines.append(line)
    while lines and not lines[-1].plain.strip():
        lines.pop()
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("\n").join(lines))
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.S)  # no request to any host
    path.write_text(svg, encoding="utf-8")


def describe_style(char: pyte.screens.Char) -> str:
    """Return the style of a character in rich's words."""
    colour = char.fg if char.fg in ("default", "red", "green", "blue", "magenta", "cyan", "yellow") else f"#{char.fg}"
    return f"{'bold ' if char.bold else ''}{'' if colour == 'default' else colour}".strip() or "none"


def draw_loss(folder: Path, path: Path) -> None:
    """Draw training and validation loss over tokens."""
    rows = list(read_rows(folder / "metrics.jsonl"))
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for name, look in (
        ("train/loss", {"color": "#9db4c8", "lw": 1}),
        ("val/loss", {"color": "#c2410c", "marker": "o", "ms": 3}),
    ):
        points = [(row["tokens"] / 1e6, row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), label=name, **look)
    axes.set(
        xlabel="million tokens", ylabel="nats per character", title=f"{folder.name}: {points[-1][1]:.3f} at the end"
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    start = time.time()
    middle, end = run_in_terminal([sys.executable, "train.py", *sys.argv[1:]])
    run = Path(next(line.strip() for line in reversed(end.display) if line.strip()))
    draw_screen(middle, "python train.py", DOCS / "training.svg")
    draw_screen(end, "python train.py", DOCS / "terminal.svg")
    draw_loss(DOCS.parent / run, DOCS / "loss.svg")
    _, study = run_in_terminal([sys.executable, "ablate.py", *STUDY])
    draw_screen(study, f"python ablate.py {' '.join(STUDY)}", DOCS / "ablation.svg", until="trade-offs")
    folder = DOCS.parent / next(line.strip() for line in reversed(study.display) if line.strip())
    take_screenshot(folder / "report.html", DOCS / "report.png")
    leet = show_for([str(Path(sys.executable).parent / "wandb"), "leet", "outputs/wandb"], 10)
    draw_screen(leet, "wandb leet outputs/wandb", DOCS / "leet.svg", until="● wandb dir")
    print(f"{run}, {time.time() - start:.0f} s")
