"""`set`, `get`, `delete`, `resolve` and `find`: records by key and by index, from the shell."""

import itertools
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from .examples import examples
from .failure import CommandFailed, ExitCode
from .options import ENDPOINTS_DEFAULT, Endpoints, Output, Stale, Timeout, as_bytes, connect, consistency_of
from .output import Form, json_line, show, show_bytes, show_table
from .source import value_of

if TYPE_CHECKING:
    from ...api.client import Matches

TABLE_ROWS_MAX = 1_000  # a table is laid out as a whole; `-o json` and `-o plain` stream

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("set", epilog=SET_EXAMPLES)(set_record)
    app.command("get", epilog=GET_EXAMPLES)(get_record)
    app.command("delete", epilog=DELETE_EXAMPLES)(delete_record)
    app.command("resolve", epilog=RESOLVE_EXAMPLES)(resolve_doubt)
    app.command("find", epilog=FIND_EXAMPLES)(find_records)


SET_EXAMPLES = examples(
    "ringhold set greeting hello",
    "ringhold set user:7 @user.json --index city=Paris --index tag=new --index tag=vip",
    "date | ringhold set now -",
    "ringhold set -- balance -5",
)


def set_record(
    key: Key,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="The value; `-` reads stdin, `@path` a file.", show_default=False)
    ],
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index", metavar="NAME=VALUE", help="Find the record under VALUE in the index NAME; repeatable."
        ),
    ] = None,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Store a value and its index entries under a key, in place of what was there."""
    from .record_views import set_view

    indexes = indexes_of(index or [])
    content = value_of(value)
    with connect(endpoints, timeout) as client:
        version = client.set(as_bytes(key), content, indexes=indexes)
    show(output, set_view(as_bytes(key), version))


GET_EXAMPLES = examples(
    "ringhold get greeting",
    "ringhold get photo -o plain > photo.jpg",
    "ringhold get user:7 -o json | jq -r .value",
    "ringhold get user:7 --stale",
)


def get_record(
    key: Key,
    stale: Stale = False,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Show the record under a key; `-o plain` gives the bytes of its value, nothing added. Exit code 3: none."""
    from .record_views import record_view

    with connect(endpoints, timeout) as client:
        record = client.get(as_bytes(key), consistency=consistency_of(stale))
    show(output, record_view(record))


DELETE_EXAMPLES = examples("ringhold delete greeting")


def delete_record(
    key: Key,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Remove the record under a key. If there is none, that is said and is no failure."""
    from .record_views import delete_view

    with connect(endpoints, timeout) as client:
        version = client.delete(as_bytes(key))
    show(output, delete_view(as_bytes(key), version))


RESOLVE_EXAMPLES = examples("ringhold resolve greeting --request-id 5f1c77b09a2e4d3886f0a1b2c3d4e5f6 --anchor 81234")


def resolve_doubt(
    key: Key,
    request_id: Annotated[
        str,
        typer.Option("--request-id", metavar="HEX", help="The request_id that the doubt names.", show_default=False),
    ],
    anchor: Annotated[
        int, typer.Option("--anchor", metavar="N", min=1, help="The anchor that it names.", show_default=False)
    ],
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Settle what became of a set or delete that ended in doubt; one not applied by now never will be.

    Exit code 5: it was asked too late, more than five minutes on, and nobody knows.
    """
    from ...api.client import Fate
    from .record_views import resolution_view

    identity = hex_bytes(request_id)
    with connect(endpoints, timeout) as client:
        resolution = client.resolve(request_id=identity, anchor=anchor, key=as_bytes(key))
    show(output, resolution_view(as_bytes(key), resolution))
    if resolution.fate is Fate.UNKNOWN:
        raise typer.Exit(ExitCode.IN_DOUBT)


def hex_bytes(argument: str) -> bytes:
    try:
        return bytes.fromhex(argument)
    except ValueError as error:
        raise CommandFailed(f"--request-id {argument}: write it in hexadecimal digits", ExitCode.USAGE) from error


FIND_EXAMPLES = examples(
    "ringhold find city Paris",
    "ringhold find city --prefix P --values",
    "ringhold find born --from 1980 --to 1990 --desc --limit 10",
    "ringhold find city Paris -o plain | wc -l",
)


def find_records(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the index.", show_default=False)],
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="Matches have this index value.", show_default=False)
    ] = None,
    prefix: Annotated[str | None, typer.Option(metavar="P", help="Index values that start with P.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="A", help="Index values from A on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="B", help="Index values before B.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most N matches.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Show the values of the records, too.")] = False,
    descending: Annotated[bool, typer.Option("--desc", help="Largest index value first.")] = False,
    stale: Stale = False,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Find records by an index, in the order of (index value, key). Nothing found is no failure."""
    check_query(value, prefix, start, end)
    with connect(endpoints, timeout) as client:
        matches = client.find(
            name,
            optional_bytes(value),
            prefix=optional_bytes(prefix),
            start=optional_bytes(start),
            end=optional_bytes(end),
            limit=limit,
            descending=descending,
            with_records=values,
            consistency=consistency_of(stale),
        )
        show_matches(output, matches)


def show_matches(output: Form, matches: "Matches") -> None:
    from .record_views import match_json, match_plain

    match output:
        case Form.TABLE:
            show_match_table(matches)
        case Form.JSON:
            show_lines(json_line(match_json(match)) for match in matches)
        case Form.PLAIN:
            show_lines(match_plain(match) for match in matches)


def show_match_table(matches: "Matches") -> None:
    from .record_views import age_line, match_table

    rows = list(itertools.islice(matches, TABLE_ROWS_MAX))
    show_table(match_table(rows))
    if matches.stale:
        show_table(age_line(matches.behind_ms))
    if len(rows) == TABLE_ROWS_MAX and next(matches, None) is not None:
        typer.echo(f"there are more than {TABLE_ROWS_MAX} matches; -o plain or -o json show all", err=True)


def show_lines(lines: Iterable[bytes]) -> None:
    for line in lines:
        show_bytes(line)
    sys.stdout.flush()


def check_query(value: str | None, prefix: str | None, start: str | None, end: str | None) -> None:
    by_range = start is not None or end is not None
    ways = [value is not None, prefix is not None, by_range]
    if ways.count(True) != 1:
        raise CommandFailed("find takes a VALUE, or --prefix, or --from and --to: one of them", ExitCode.USAGE)


def optional_bytes(argument: str | None) -> bytes | None:
    return None if argument is None else as_bytes(argument)


def indexes_of(entries: Iterable[str]) -> dict[str, list[bytes]]:
    """Index entries from `NAME=VALUE` arguments, several values of a name in their order.

    >>> indexes_of(["city=Paris", "tag=a", "tag=b"])
    {'city': [b'Paris'], 'tag': [b'a', b'b']}
    """
    indexes: dict[str, list[bytes]] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not sign or not name:
            raise CommandFailed(f"--index {entry}: write NAME=VALUE", ExitCode.USAGE)
        indexes.setdefault(name, []).append(as_bytes(value))
    return indexes
