"""Rows of files to import: what becomes of good ones and of bad ones."""

import io
import json
from typing import Any

import pytest

from ringhold.node.cli import rows
from ringhold.node.cli.rows import BadRow, NewRecord, Row, RowError, csv_rows, json_rows, record_of


def record(fields: dict[str, Any], *indexes: str, empty_is_missing: bool = False) -> NewRecord | BadRow:
    row = Row(1, fields, json.dumps(fields).encode())
    return record_of(row, "id", indexes, empty_is_missing=empty_is_missing)


def test_json_lines() -> None:
    """A line's own bytes are the value, whatever its end; empty lines are skipped and counted."""
    text = b'\xef\xbb\xbf{"id": 1.0, "n": "Z\xc3\xbcrich"}\r\n\n  \n {"id":2} '
    first, second = json_rows(io.BytesIO(text))
    assert first == Row(1, {"id": 1.0, "n": "Zürich"}, b'{"id": 1.0, "n": "Z\xc3\xbcrich"}')
    assert second == Row(4, {"id": 2}, b'{"id":2}')


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "it is not JSON: "),
        (b"[1]", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b'{"a": NaN}', "it is not JSON: NaN is not a number in JSON"),
        (b'{"a":' * 100_000, "it is not JSON: "),
        (b'{"a":' + b"9" * 5000 + b"}", "it is not JSON: "),
    ],
)
def test_bad_json_line(line: bytes, problem: str) -> None:
    """A line that is no JSON object is named by its number, and the lines after it are read."""
    bad, good = json_rows(io.BytesIO(line + b'\n{"id": 1}\n'))
    assert isinstance(bad, BadRow)
    assert bad.line == 1
    assert bad.problem.startswith(problem)
    assert isinstance(good, Row)
    assert good.line == 2


def test_overlong_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over the limit is never held as a whole, and is one bad line."""
    monkeypatch.setattr(rows, "LINE_BYTES_MAX", 10)
    found = list(json_rows(io.BytesIO(b'{"a": "' + b"x" * 95 + b'"}\n{"b": 1}\n' + b"y" * 50)))
    assert [type(row) for row in found] == [BadRow, Row, BadRow]
    assert [row.line for row in found] == [1, 2, 3]
    with pytest.raises(RowError):
        list(csv_rows(io.BytesIO(b"a\n" + b"x" * 50)))


def test_csv() -> None:
    """A CSV row is an object of texts named by the header; quoted cells may hold commas and line ends."""
    text = b'\xef\xbb\xbfid,name\r\n1,"a, b"\r\n\r\n2,"c\nd"\r\n'
    assert list(csv_rows(io.BytesIO(text))) == [
        Row(2, {"id": "1", "name": "a, b"}, b'{"id": "1", "name": "a, b"}'),
        Row(5, {"id": "2", "name": "c\nd"}, b'{"id": "2", "name": "c\\nd"}'),
    ]
    assert list(csv_rows(io.BytesIO(b""))) == []


def test_bad_csv_rows() -> None:
    """Too few or many cells, bad quotes and bytes that are no text make bad lines; the others are read."""
    text = b'id,name\n1\n2,a,b\n3,"x"y\n4,\xff\n5,good\n'
    *bad, good = csv_rows(io.BytesIO(text))
    assert [row.problem for row in bad if isinstance(row, BadRow)] == [
        "it has 1 cells, the header has 2",
        "it has 3 cells, the header has 2",
        "it is not CSV: ',' expected after '\"'",
        "it is not UTF-8",
    ]
    assert [row.line for row in bad] == [2, 3, 4, 5]
    assert good == Row(6, {"id": "5", "name": "good"}, b'{"id": "5", "name": "good"}')


def test_bad_csv_header() -> None:
    """Without a header nothing can be read."""
    with pytest.raises(RowError, match="its header can't be read"):
        list(csv_rows(io.BytesIO(b'"x"y\n1\n')))


@pytest.mark.parametrize(("key", "stored"), [("k", b"k"), ("ü", "ü".encode()), (7, b"7"), (1.5, b"1.5")])
def test_key(key: object, stored: bytes) -> None:
    """A key is text or a number, as JSON writes it."""
    found = record({"id": key})
    assert isinstance(found, NewRecord)
    assert found.key == stored


@pytest.mark.parametrize(
    "fields", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": [1]}, {"id": {}}, {"id": "\ud800"}]
)
def test_bad_key(fields: dict[str, Any]) -> None:
    """Without a usable key the line is bad."""
    assert isinstance(record(fields), BadRow)


def test_indexes() -> None:
    """A scalar gives one index value, a list several, each once; null and missing ones give none."""
    fields = {"id": 1, "a": "x", "b": ["x", 2, "x", None, True], "c": None, "e": [], "f": ""}
    found = record(fields, "a", "b", "c", "d", "e", "f")
    assert isinstance(found, NewRecord)
    assert found.indexes == {"a": [b"x"], "b": [b"x", b"2", b"true"], "f": [b""]}
    assert found.size == 1 + len(found.value) + (1 + 1) + (1 + 1 + 1 + 1 + 1 + 4) + 1


def test_empty_cells() -> None:
    """In CSV an empty cell is a missing one."""
    found = record({"id": "1", "a": "", "b": "x"}, "a", "b", empty_is_missing=True)
    assert isinstance(found, NewRecord)
    assert found.indexes == {"b": [b"x"]}


@pytest.mark.parametrize("content", [{"x": 1}, [["x"]], [{"x": 1}]])
def test_bad_index(content: object) -> None:
    """What is neither text nor a number can't be an index value."""
    found = record({"id": 1, "a": content}, "a")
    assert isinstance(found, BadRow)
    assert found.problem.startswith("'a' holds neither")
