"""Pages that the code itself declares: every choice with its formula and source, and every key of a config."""

import ast
import html
import re
from functools import cache
from typing import Any

import yaml

from gptlab.ablation.options import StudyOptions
from gptlab.commands.explain import read_head_comment
from gptlab.commands.slots import describe_menu
from gptlab.config.menu import find_yaml
from gptlab.runs.fingerprint import find_source

MENU_HEAD = """# Architecture menu

Every choice of every slot, from `conf/` and the heads of the classes. A star is a default. The row has the formula and
the source; what a choice departs from, its knobs and their defaults open below the table.

    python train.py SLOT=CHOICE SLOT.KNOB=VALUE
    python -m gptlab explain SLOT=CHOICE          # the same, and what it costs at a size
    python -m gptlab slots --search WORDS         # what mentions them

Which parts go together is in [support](support.md).
"""
SETTINGS_HEAD = """# Config keys

Keys that are no choice and no knob of one: `python train.py KEY=VALUE`. Knobs of choices are in the [menu](menu.md);
`python train.py --cfg job --resolve` prints the whole config of a command.
"""
STATED = re.compile(r": ([^:]{1,100}?)(?: \((?:[A-Z]|[^()]*github).*\))?\.$")
"""What a colon brings at the end of a head's first sentence, without the source behind it."""
WITHOUT_FORMULA = ("data", "experiment", "mirror", "model", "study", "tokenizer", "tracking", "trainer")
"""Slots of things that compute nothing of their own; what stands indented in their heads is an example."""
SOURCE = re.compile(
    r"arXiv:\d{4}\.\d{4,5}|(?:github|kellerjordan)\.(?:com|github\.io)/[\w./-]*[\w/-]"
    r"|[A-Z]\w+(?: et al\.| and [A-Z]\w+)?,? (?:19|20)\d\d"
)
"""A paper, a repository, or authors and a year."""


@cache
def read_menu() -> dict[str, Any]:
    """Return the menu, for which every class of it is imported."""
    return describe_menu(StudyOptions)


def render_menu_page() -> str:
    """Return the page of all choices."""
    menu = read_menu()
    return "\n".join([MENU_HEAD, *(render_slot(slot, described) for slot, described in menu["slots"].items())])


def render_slot(slot: str, described: dict[str, Any]) -> str:
    """Return a slot's table, a row a choice, and what each of them says of itself."""
    lines = [f"## {slot}", "", "| choice | what it is | formula | source |", "| :-- | :-- | :-- | :-- |"]
    notes = []
    for choice, facts in described["choices"].items():
        head = read_head(slot, choice)
        is_default = choice == described["default"] or choice in (described["default"] or ())
        name = f"`{choice}`{' *' if is_default else ''}"
        formula = render_code(find_formula(slot, choice, head))
        lines.append(
            f"| {name} | {escape(facts['about'])} | {formula} | {', '.join(find_sources(choice, facts, head))} |"
        )
        notes.append(render_note(slot, choice, head, facts["knobs"]))
    return "\n".join([*lines, "", *notes])


def render_note(slot: str, choice: str, head: str, knobs: dict[str, Any]) -> str:
    """Return the folded part of a choice: the head of its file, and its knobs."""
    parts = [f"<pre>{html.escape(head)}</pre>" if head else ""]
    if knobs:
        rows = "".join(
            f"<tr><td><code>{slot}.{html.escape(knob)}</code></td><td>{html.escape(facts['type'])}</td>"
            f"<td><code>{html.escape(format_default(facts['default']))}</code></td>"
            f"<td>{html.escape(facts['about'])}</td></tr>"
            for knob, facts in knobs.items()
        )
        parts.append(f"<table><tr><th>knob</th><th>type</th><th>default</th><th>meaning</th></tr>{rows}</table>")
    # HTML blocks end at a blank line, so there is none inside
    body = "".join(parts).replace("\n\n", "\n&#8203;\n")
    return f"<details><summary><code>{slot}={choice}</code></summary>{body}</details>\n"


def read_head(slot: str, choice: str) -> str:
    """Return the head of a choice's code and the comment at the head of its YAML."""
    text = find_yaml(slot, choice).read_text(encoding="utf-8")
    target = (yaml.safe_load(text) or {}).get("_target_", "")
    code = find_source(target.rpartition(".")[0]) if target and not is_pattern(target) else None
    docstring = ast.get_docstring(ast.parse(code.read_text(encoding="utf-8"))) if code else ""
    return "\n\n".join(filter(None, [docstring, read_head_comment(text)]))


def is_pattern(target: str) -> bool:
    """Whether a choice tiles others over the layers, and has no code of its own."""
    return target.endswith(".pattern")


def find_formula(slot: str, choice: str, head: str) -> str:
    """Return the formula of a choice: its own line of the head, the first indented block, or what a colon brings."""
    node = yaml.safe_load(find_yaml(slot, choice).read_text(encoding="utf-8")) or {}
    if is_pattern(node.get("_target_", "")):
        return f"layer l is layout[l mod {len(node['layout'])}] of {' '.join(node['layout'])}"
    if slot in WITHOUT_FORMULA:
        return ""
    lines = []
    own = re.search(rf"^ *{choice}  +(\S.*)$", head, re.M)
    block = re.search(r"^    \S.*(?:\n    .*)*", head, re.M)
    if own:
        # the source stands in a column behind, and has one of its own here
        lines.append(re.split(r"  +(?=.*(?:arXiv|(?:19|20)\d\d))", own[1])[0].strip())
    if block and not (own and block[0].lstrip().startswith(choice)):
        # what stands side by side in the head stands one below the other in a narrow cell
        lines += [part.strip() for line in block[0].splitlines() for part in line.split(" " * 8) if part.strip()]
    elif stated := re.search(
        r": ([^:]{1,100}?)(?: \((?:[A-Z]|[^()]*github).*\))?\.$", head.partition("\n\n")[0].replace("\n", " ")
    ):
        lines += [stated[1]] if re.search(r"[=^*]|\w\(", stated[1]) else []
    return "\n".join(dict.fromkeys(lines))


def find_sources(choice: str, facts: dict[str, Any], head: str) -> list[str]:
    """Return where a choice comes from, with links: the line that names it, else the first paragraph of its head."""
    own = re.search(rf"^ *{choice}  +.*$", head, re.M)
    for text in (own[0] if own else "", facts["about"], head.partition("\n\n")[0], head):
        if found := list(dict.fromkeys(SOURCE.findall(text))):
            return [link_source(name) for name in found[:3]]
    return []


def link_source(name: str) -> str:
    """Return a source as a link where it has an address."""
    if name.startswith("arXiv:"):
        return f"[{name}](https://arxiv.org/abs/{name.removeprefix('arXiv:')})"
    return f"[{name}](https://{name})" if "/" in name else name


def render_settings_page() -> str:
    """Return the page of the keys of train.yaml and ablate.yaml."""
    menu = read_menu()
    parts = [SETTINGS_HEAD]
    for title, key in (("A run: train.py, and every cell of a study", "settings"), ("A study: ablate.py", "study")):
        parts += [f"## {title}", "", "| key | type | default | meaning |", "| :-- | :-- | :-- | :-- |"]
        for name, facts in menu[key].items():
            default = render_code(format_default(facts["default"]))
            parts.append(f"| `{name}` | {escape(facts['type'])} | {default} | {escape(facts['about'])} |")
        parts.append("")
    return "\n".join(parts)


def format_default(value: Any) -> str:
    """Return a default as YAML has it."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def render_code(text: str) -> str:
    """Return code for the cell of a table, its lines one below the other."""
    return "<br>".join(f"<code>{escape(line)}</code>" for line in text.splitlines())


def escape(text: str) -> str:
    """Return text that is neither markup nor the end of a cell."""
    return re.sub(r"[|*_`\[\]$]", lambda letter: f"&#{ord(letter[0])};", html.escape(text))
