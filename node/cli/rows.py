"""Rows of a JSON Lines or CSV file as records to import; a bad line is a value, not an exception. See docs/cli.md."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, TypeAlias

from ...api.limits import MIB

LINE_BYTES_MAX = 8 * MIB
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some programs write it first, as if it were of use

Scalar: TypeAlias = str | int | float | bool


class RowError(ValueError):
    """A line can't be imported; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line as an object, and as the JSON that is stored."""

    line: int
    fields: Mapping[str, Any]
    value: bytes


@dataclass(frozen=True, slots=True)
class BadRow:
    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What a row becomes."""

    line: int
    key: bytes
    value: bytes
    indexes: Mapping[str, Sequence[bytes]]

    @property
    def size(self) -> int:
        """Bytes that it takes in a batch, roughly."""
        entries = sum(len(name) + len(value) for name, values in self.indexes.items() for value in values)
        return len(self.key) + len(self.value) + entries


def json_rows(file: BinaryIO) -> Iterator[Row | BadRow]:
    """The rows of a JSON Lines file; empty lines are skipped."""
    number = 0
    while text := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(text) > LINE_BYTES_MAX:
            skip_line(file, text)
            yield BadRow(number, f"it is longer than {LINE_BYTES_MAX // MIB} MiB")
        elif text.strip():
            yield json_row(number, text)


def skip_line(file: BinaryIO, text: bytes) -> None:
    while text and not text.endswith(b"\n"):
        text = file.readline(LINE_BYTES_MAX)


def json_row(number: int, text: bytes) -> Row | BadRow:
    value = text.removeprefix(BYTE_ORDER_MARK).strip()
    try:
        fields = json.loads(value.decode(), parse_constant=refuse_constant)
    except UnicodeDecodeError:
        return BadRow(number, "it is not UTF-8")
    except (ValueError, RecursionError) as error:
        return BadRow(number, f"it is not JSON: {error}")
    if not isinstance(fields, dict):
        return BadRow(number, "it is not a JSON object")
    return Row(number, fields, value)


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def csv_rows(file: BinaryIO) -> Iterator[Row | BadRow]:
    """The rows below the header row of a CSV file, as objects of texts; a row's number is that of its last line."""
    reader = csv.reader(csv_lines(file), strict=True)
    header = next_cells(reader)
    if isinstance(header, str):
        raise RowError(f"its header can't be read: {header}")
    while header and (cells := next_cells(reader)) is not None:
        if isinstance(cells, str):
            yield BadRow(reader.line_num, cells)
        elif cells:
            yield csv_row(reader.line_num, header, cells)


def csv_lines(file: BinaryIO) -> Iterator[str]:
    while text := file.readline(LINE_BYTES_MAX + 1):
        if len(text) > LINE_BYTES_MAX:
            raise RowError(f"a line is longer than {LINE_BYTES_MAX // MIB} MiB")
        yield text.removeprefix(BYTE_ORDER_MARK).decode("utf-8", errors="surrogateescape")


def next_cells(reader: Iterator[list[str]]) -> list[str] | str | None:
    """The next row's cells; a text that says what is wrong with it; None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"it is not CSV: {error}"


def csv_row(number: int, header: Sequence[str], cells: Sequence[str]) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow(number, f"it has {len(cells)} cells, the header has {len(header)}")
    fields = dict(zip(header, cells, strict=True))
    try:
        return Row(number, fields, json.dumps(fields, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return BadRow(number, "it is not UTF-8")


def record_of(row: Row, key_field: str, index_fields: Sequence[str], *, empty_is_missing: bool) -> NewRecord | BadRow:
    """The record of a row. Index fields that are missing or null give no entry; in CSV, neither do empty ones."""
    try:
        indexes = {name: index_values(name, row.fields.get(name)) for name in index_fields}
        key = key_of(row, key_field)
    except RowError as error:
        return BadRow(row.line, str(error))
    if empty_is_missing:
        indexes = {name: [value for value in values if value] for name, values in indexes.items()}
    return NewRecord(row.line, key, row.value, {name: values for name, values in indexes.items() if values})


def key_of(row: Row, field: str) -> bytes:
    key = row.fields.get(field)
    if key is None or key == "":
        raise RowError(f"there is no {field!r}, which is the key")
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise RowError(f"{field!r}, which is the key, is neither text nor a number")
    return scalar_bytes(field, key)


def index_values(field: str, content: object) -> list[bytes]:
    """The index values of a field: none, one, or those of a list, each once."""
    items = content if isinstance(content, list) else [content]
    values: dict[bytes, None] = {}
    for item in items:
        if isinstance(item, str | int | float):
            values[scalar_bytes(field, item)] = None
        elif item is not None:
            raise RowError(f"{field!r} holds neither text nor numbers, so it can't be an index")
    return list(values)


def scalar_bytes(field: str, scalar: Scalar) -> bytes:
    """A scalar as JSON would write it, text without quotes.

    >>> scalar_bytes("n", "Zürich"), scalar_bytes("n", True), scalar_bytes("n", 1.5)
    (b'Z\\xc3\\xbcrich', b'true', b'1.5')
    """
    text = scalar if isinstance(scalar, str) else json.dumps(scalar)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise RowError(f"{field!r} holds a lone surrogate, which is no text") from None
