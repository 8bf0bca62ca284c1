"""What commands print: a table for people, JSON or plain bytes for scripts. See docs/cli.md for the shapes."""

import base64
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Json: TypeAlias = Mapping[str, Any]

PIPE_WIDTH = 240  # columns of a table that no terminal bounds
SHOWN_LENGTH_MAX = 160  # characters of a key or value in a table


class Form(StrEnum):
    """How a command prints its answer."""

    TABLE = "table"
    JSON = "json"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class View:
    """An answer in its three forms, each made only if it is wanted."""

    table: Callable[[], "RenderableType"]
    json: Callable[[], Json]
    plain: Callable[[], bytes]


def show(form: Form, view: View) -> None:
    """Print an answer on stdout."""
    match form:
        case Form.TABLE:
            show_table(view.table())
        case Form.JSON:
            show_bytes(json_line(view.json()))
        case Form.PLAIN:
            show_bytes(view.plain())


def show_table(table: "RenderableType") -> None:
    console().print(table)


def show_bytes(text: bytes) -> None:
    sys.stdout.buffer.write(text)


def console() -> "Console":
    """Rich on stdout, as wide as the terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def json_line(answer: Json) -> bytes:
    """One line of JSON; bytes become text if they are UTF-8, else `{"base64": …}`.

    >>> json_line({"value": b"\\xff"})
    b'{"value": {"base64": "/w=="}}\\n'
    """
    return json.dumps(answer, ensure_ascii=False, default=json_bytes).encode() + b"\n"


def json_bytes(value: object) -> str | dict[str, str]:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def shown(value: bytes) -> str:
    """Bytes as people read them: text if it is printable UTF-8, else Python's notation; cut when long.

    >>> shown("Zürich".encode()), shown(b"\\x00\\xff")
    ('Zürich', "b'\\\\x00\\\\xff'")
    """
    text = value.decode(errors="replace")
    if not text.isprintable() or "\ufffd" in text:
        text = repr(value[:SHOWN_LENGTH_MAX])
    if len(text) <= SHOWN_LENGTH_MAX and len(value) <= 4 * SHOWN_LENGTH_MAX:
        return text
    return f"{text[:SHOWN_LENGTH_MAX]}… ({len(value)} bytes)"


def size_text(size: int) -> str:
    """A number of bytes for people.

    >>> size_text(999), size_text(1_536), size_text(5 * 1024**3)
    ('999 B', '1.5 KiB', '5.0 GiB')
    """
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
