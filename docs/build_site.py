"""Build the site of the documents into site/: make site

The pages of docs/ and of the root are copied to build/pages, with links that hold there; the menu and the settings are
written from conf/ and the code (menu_page.py). Then zensical builds them, strictly: a link or an anchor that
leads nowhere ends it.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from menu_page import render_menu_page, render_settings_page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
OF_ROOT = {
    "README.md": "index.md",
    "AGENTS.md": "agents.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages that lie in the root, by their names on the site."""
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
"""A link to a file, with its words, target and anchor."""
FILES = (".svg", ".png", ".css", ".ipynb")


def stage_pages(folder: Path) -> None:
    """Write every page of the site into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(DOCS.glob("*.md")):
        (folder / file.name).write_text(adapt_page(file.read_text(encoding="utf-8"), DOCS), encoding="utf-8")
    for name, page in OF_ROOT.items():
        (folder / page).write_text(adapt_page((ROOT / name).read_text(encoding="utf-8"), ROOT), encoding="utf-8")
    for file in DOCS.iterdir():
        if file.suffix in FILES:
            shutil.copy(file, folder)
    (folder / "menu.md").write_text(render_menu_page(), encoding="utf-8")
    (folder / "settings.md").write_text(render_settings_page(), encoding="utf-8")


def adapt_page(text: str, folder: Path) -> str:
    """Return a page with links that hold on the site, and a blank line before each list, as Python-Markdown wants."""
    text = LINK.sub(lambda link: adapt_link(link, folder), text)
    return re.sub(r"^(?![*\s|>])(.+)\n(\* )", r"\1\n\n\2", text, flags=re.M)


def adapt_link(link: re.Match[str], folder: Path) -> str:
    """Return a link to a page of the site; of one to a file of the tree its words."""
    words, target, anchor = link[1], link[2], link[3] or ""
    path = (folder / target).resolve()
    if path.parent == DOCS:
        return f"[{words}]({path.name}{anchor})"
    if path.parent == ROOT and path.name in OF_ROOT:
        return f"[{words}]({OF_ROOT[path.name]}{anchor})"
    # sources are no pages of the site; the file may have no address anywhere
    return words


def build_site(folder: Path) -> int:
    """Build the pages that are staged in <folder>/build/pages into <folder>/site, and return the exit status.

    folder  holds mkdocs.yml; the root of the tree, or elsewhere in a test
    """
    if importlib.util.find_spec("zensical") is None:
        sys.exit("error: zensical is not installed; say pip install -e '.[docs]', or make check once")
    command = [sys.executable, "-c", "from zensical.main import cli; cli()", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        # it colours letter by letter, and its own traceback says only that it is strict
        said = re.sub(r"\x1b\[[\d;]*m", "", f"{done.stdout}{done.stderr}")
        print(said.partition("Traceback")[0].strip(), file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    stage_pages(ROOT / "build" / "pages")
    status = build_site(ROOT)
    if not status:
        print("site/index.html")
    sys.exit(status)
