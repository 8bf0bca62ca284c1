"""Answers about records in their three forms; imported only once there is an answer. See docs/cli.md."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .output import Json, View, json_bytes, shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from ...api.client import Match, Record, Resolution


def set_view(key: bytes, version: int) -> View:
    return View(
        table=lambda: line(f"stored {shown(key)} as version {version}"),
        json=lambda: {"key": key, "version": version},
        plain=lambda: b"%d\n" % version,
    )


def delete_view(key: bytes, version: int) -> View:
    existed = version > 0
    what = f"removed {shown(key)}" if existed else f"there was no key {shown(key)}"
    return View(
        table=lambda: line(what),
        json=lambda: {"key": key, "existed": existed, "version": version},
        plain=lambda: b"%d\n" % version,
    )


def resolution_view(key: bytes, resolution: "Resolution") -> View:
    fate, changes = resolution.fate.value, resolution.changes
    versions = ", ".join(str(change.version) for change in changes)
    what = {
        "applied": f"applied: the change of {shown(key)} has version {versions}",
        "aborted": f"not applied: the change of {shown(key)} was not made, and never will be",
        "unknown": f"unknown: nobody knows whether the change of {shown(key)} was made; from now on it won't be",
    }
    return View(
        table=lambda: line(what[fate]),
        json=lambda: {
            "key": key,
            "fate": fate,
            "changes": [{"version": change.version, "existed": change.existed} for change in changes],
        },
        plain=lambda: b" ".join([fate.encode(), *(b"%d" % change.version for change in changes)]) + b"\n",
    )


def record_view(record: "Record") -> View:
    return View(
        table=lambda: record_table(record),
        json=lambda: {**record_json(record), **age_json(record)},
        plain=lambda: bytes(record.value),
    )


def record_json(record: "Record") -> Json:
    return {
        "key": record.key,
        "value": record.value,
        "version": record.version,
        "create_version": record.create_version,
        "indexes": indexes_json(record),
    }


def age_json(found: "Record | Match") -> Json:
    """What a stale read says of itself; `behind_ms` null: unknown."""
    return {"stale": True, "behind_ms": found.behind_ms} if found.stale else {}


def age_text(behind_ms: int | None) -> str:
    """How far behind a stale read may be.

    >>> age_text(1_234), age_text(None)
    ('at most 1234 ms behind', 'nobody knows how far behind')
    """
    return "nobody knows how far behind" if behind_ms is None else f"at most {behind_ms} ms behind"


def indexes_json(record: "Record") -> Json:
    """Index values by name: no name is lost in JSON, unlike with bytes as keys."""
    return {name: [json_bytes(value) for value in values] for name, values in record.indexes.items()}


def record_table(record: "Record") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_row(Text("key", style="dim"), Text(shown(record.key), style="bold"))
    table.add_row(Text("value", style="dim"), Text(shown(record.value)))
    table.add_row(Text("version", style="dim"), Text(str(record.version)))
    for name, values in record.indexes.items():
        table.add_row(Text(f"index {shown(name.encode())}", style="dim"), Text(", ".join(map(shown, values))))
    if record.stale:
        table.add_row(Text("stale", style="dim"), Text(age_text(record.behind_ms)))
    return table


def match_json(match: "Match") -> Json:
    found = {"key": match.key, "index_value": match.index_value, **age_json(match)}
    return found if match.record is None else {**found, "record": record_json(match.record)}


def match_plain(match: "Match") -> bytes:
    """The key, and after a tab the value if it was asked for."""
    return match.key + b"\n" if match.record is None else match.key + b"\t" + match.record.value + b"\n"


def match_table(matches: Sequence["Match"]) -> "RenderableType":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    with_values = any(match.record is not None for match in matches)
    table = Table("index value", "key", *(["value"] if with_values else []), box=SIMPLE_HEAD, caption_justify="left")
    for match in matches:
        cells = [match.index_value, match.key, *([match.record.value] if match.record else [])]
        table.add_row(*(Text(shown(cell)) for cell in cells))
    table.caption = f"{len(matches)} found"
    return table


def age_line(behind_ms: int | None) -> "Text":
    return line(f"stale: {age_text(behind_ms)}")


def line(text: str) -> "Text":
    from rich.text import Text

    return Text(text)
