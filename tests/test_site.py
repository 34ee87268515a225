"""The site of the documents: every page is in its contents, the menu has every choice, links hold."""

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import build_site
import menu_page
import pytest
import yaml
from conftest import ROOT, choices

from gptlab.commands.explain import list_slots

NEEDS_BUILDER = pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the staged pages and the settings of the site."""
    folder = tmp_path_factory.mktemp("site")
    build_site.stage_pages(folder / "build" / "pages")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    return folder


def list_contents(nav: list) -> Iterator[str]:
    """The pages of a nav."""
    for entry in nav:
        for target in entry.values():
            if isinstance(target, list):
                yield from list_contents(target)
            else:
                yield target


def test_every_page_is_in_the_contents(folder: Path):
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(list_contents(nav)) == sorted(page.name for page in (folder / "build" / "pages").glob("*.md"))


def test_the_menu_has_a_row_for_each_choice_and_what_it_is():
    page = menu_page.render_menu_page()
    parts = dict(zip(re.findall(r"^## (\w+)$", page, re.M), re.split(r"^## \w+$", page, flags=re.M)[1:], strict=True))
    assert [*parts] == list_slots()
    for slot, part in parts.items():
        rows = re.findall(r"^\| `(\w+)`( \*)? \| (.+?) \| (.*?) \| (.*?) \|$", part, re.M)
        assert [row[0] for row in rows] == choices(slot), slot
        assert all(row[2].strip() for row in rows), slot


@pytest.mark.parametrize(
    ("slot", "choice", "formula", "source"),
    [
        ("norm", "layernorm", "(x - mean) / sqrt(var + eps) * weight + bias", "arXiv:1607.06450"),
        ("mlp", "relu2", "max(0, x)^2", "arXiv:2109.08668"),
        ("attention", "mqa", "kv_heads = 1\nout(softmax(scale q k^T) v)", "arXiv:1911.02150"),
        ("attention", "local_global", "layer l is layout[l mod 4] of local local local full", "arXiv:2504.00698"),
        ("position", "alibi", "bias = -slope_h (query - key)", "arXiv:2108.12409"),
    ],
)
def test_the_formula_and_the_source_are_those_of_the_head(slot: str, choice: str, formula: str, source: str):
    head = menu_page.read_head(slot, choice)
    assert menu_page.find_formula(slot, choice, head).startswith(formula)
    assert any(source in link for link in menu_page.find_sources(choice, {"about": ""}, head))


@pytest.mark.parametrize("slot", ["attention", "mlp", "residual", "optimizer", "norm"])
def test_nearly_every_part_has_a_formula_and_a_source(slot: str):
    heads = {choice: menu_page.read_head(slot, choice) for choice in choices(slot)}
    without = [
        choice
        for choice, head in heads.items()
        if not menu_page.find_formula(slot, choice, head) or not menu_page.find_sources(choice, {"about": ""}, head)
    ]
    # what has no formula of its own: nothing, an update that its paper alone has, and the plain post-norm
    assert {*without} <= {"none", "rms_weightless", "adamw", "post"}


def test_links_out_of_the_documents_become_words():
    page = "[a](../examples/plugin) [b](log.md#x) [c](https://hydra.cc) text\n* item\n* other"
    adapted = build_site.adapt_page(page, ROOT / "docs")
    assert adapted == "a [b](log.md#x) [c](https://hydra.cc) text\n\n* item\n* other"
    assert build_site.adapt_page("[r](docs/log.md) [i](README.md)", ROOT) == "[r](log.md) [i](index.md)"


@NEEDS_BUILDER
def test_the_site_is_built_and_loads_nothing_from_another_host(folder: Path):
    assert build_site.build_site(folder) == 0
    pages = {page.name: page.read_text(encoding="utf-8") for page in (folder / "site").glob("*.html")}
    assert {"index.html", "menu.html", "tutorial.html"} <= pages.keys()
    for name, text in pages.items():
        loaded = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?([^\"'\s>]+)", text)
        assert loaded, name
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], name
    styles = [sheet.read_text(encoding="utf-8") for sheet in (folder / "site").rglob("*.css")]
    assert styles
    assert not [sheet for sheet in styles if re.search(r"url\([\"']?(https?:)?//|@import", sheet)]


@NEEDS_BUILDER
@pytest.mark.parametrize("link", ["nowhere.md", "training.md#nowhere"])
def test_a_link_that_leads_nowhere_ends_the_build(link: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    pages = tmp_path / "build" / "pages"
    pages.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "training.md", pages)
    for picture in (ROOT / "docs").glob("*.svg"):
        shutil.copy(picture, pages)
    (pages / "index.md").write_text(f"# Site\n\n[x]({link})\n")
    settings = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings.replace("extra_css: [site.css]\n", ""))
    assert build_site.build_site(tmp_path) != 0
    assert "nowhere" in capfd.readouterr().err
