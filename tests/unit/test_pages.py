"""What the pages show is what the program takes: commands have flags that exist, Python is Python."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ringhold.node.cli.commands import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of each `ringhold …` line that any page shows."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["ringhold"]:
                    yield page.name, arguments_of(words)


def arguments_of(words: list[str]) -> list[str]:
    """What the command sees of a line of shell: nothing of pipes, redirections or `&`."""
    ends = [position for position, word in enumerate(words) if word in {"&", "|", ">", "<", "&&"}]
    return words[1 : min(ends, default=len(words))]


def python_blocks() -> list[tuple[str, str]]:
    return [(page.name, block) for page in PAGES for block in blocks(page, "python")]


@pytest.mark.parametrize(("page", "arguments"), list(commands()))
def test_commands_of_pages_are_taken(page: str, arguments: list[str]) -> None:
    """Each command line that a page shows names a command and options that exist."""
    group: Any = typer.main.get_command(app)
    assert arguments[0].startswith("-") or arguments[0] in group.commands, page
    if arguments[0] in group.commands:
        group.commands[arguments[0]].make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_python_of_pages_parses(page: str, block: str) -> None:
    """Each block of Python that a page shows is Python."""
    assert ast.parse(block, filename=page).body
