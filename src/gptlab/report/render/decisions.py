"""Decision accuracy on the terminal, in Markdown and for programs: one model of tables and words, three outputs."""

from dataclasses import asdict
from typing import Any

from rich.console import Console

from gptlab.report.model import Table, Words
from gptlab.report.render.markdown import escape_markdown, render_item
from gptlab.report.render.terminal import print_paragraph, print_section, print_table
from gptlab.report.text.decisions import (
    build_decision_columns,
    build_share_columns,
    build_slot_columns,
    describe_pair,
    describe_rule,
    name_pair,
)
from gptlab.report.text.markup import bold, parse_sentence
from gptlab.stats.ladder.decisions import SizePair


def list_tables(pair: SizePair) -> list[Table]:
    """Return the tables of a pair of sizes: each decision, the shares, the slots."""
    return [
        Table("Each decision", build_decision_columns(pair), describe_rule(pair)),
        Table("Signs that agree", build_share_columns(pair)),
        Table("By the slot that changes", build_slot_columns(pair)),
    ]


def print_decisions(pairs: list[SizePair], console: Console) -> None:
    """Print all pairs of sizes."""
    for pair in pairs:
        print_paragraph(parse_sentence(bold(name_pair(pair))), console, space_before=True)
        print_section("", describe_pair(pair), console)
        for table in list_tables(pair):
            print_table([*table.columns], console, space_before=True)
            if table.foot:
                print_paragraph(table.foot, console, style="dim")


def render_decisions(pairs: list[SizePair]) -> str:
    """Return all pairs of sizes in Markdown, without headings of its own, so that a page can hold it."""
    parts = []
    for pair in pairs:
        parts += [f"**{escape_markdown(name_pair(pair))}**", render_item(Words(describe_pair(pair)))]
        parts += [render_item(table) for table in list_tables(pair)]
    return "\n\n".join(parts) + "\n"


def answer_with_decisions(pairs: list[SizePair]) -> list[dict[str, Any]]:
    """Return all pairs of sizes as plain data, each decision with what it is called."""
    answers = []
    for pair in pairs:
        answer = asdict(pair)
        for plain, decision in zip(answer["decisions"], pair.decisions, strict=True):
            plain |= {"agrees": decision.agrees, "outcome": decision.outcome}
        answers.append(answer)
    return answers
