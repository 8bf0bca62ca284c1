"""`import`: the rows of a file as records, in batches; what can't be imported is named and counted."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, TypeAlias

import typer

from ...api.errors import InvalidRequest, RingholdError
from ...api.limits import MIB
from .examples import examples
from .failure import CommandFailed, ExitCode, exit_code_of, sentence, unreadable
from .options import ENDPOINTS_DEFAULT, Endpoints, Output, Timeout, connect
from .output import Form, View, show
from .rows import BadRow, NewRecord, Row, RowError, csv_rows, json_rows, record_of

if TYPE_CHECKING:
    from ...api.client import Client
    from ...api.client import Outcome as Result
    from ...api.client import Set as SetOperation

BATCH_RECORDS_MAX = 500
BATCH_BYTES_MAX = 1 * MIB

Progress: TypeAlias = Callable[[int], None]


class Format(StrEnum):
    """How the rows of a file are written."""

    JSONL = "jsonl"
    CSV = "csv"


READERS: dict[Format, Callable[[BinaryIO], Iterator[Row | BadRow]]] = {Format.JSONL: json_rows, Format.CSV: csv_rows}
SUFFIXES = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".csv": Format.CSV}


@dataclass(slots=True)
class Outcome:
    """What became of the rows so far."""

    imported: int = 0
    bad: int = 0

    def view(self) -> View:
        from rich.text import Text

        return View(
            table=lambda: Text(f"imported {self.imported} records, {self.bad} bad lines"),
            json=lambda: {"imported": self.imported, "bad_lines": self.bad},
            plain=lambda: b"%d\n" % self.imported,
        )


@dataclass(slots=True)
class Batch:
    """Records that go out in one call."""

    records: list[NewRecord] = field(default_factory=list)
    size: int = 0

    def add(self, record: NewRecord) -> None:
        self.records.append(record)
        self.size += record.size

    def takes(self, record: NewRecord) -> bool:
        fits = len(self.records) < BATCH_RECORDS_MAX and self.size + record.size <= BATCH_BYTES_MAX
        return fits or not self.records


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("import", epilog=EXAMPLES)(import_file)


EXAMPLES = examples(
    "ringhold import cities.csv --key name --index country --index region",
    "ringhold import users.jsonl --key id --index city --index tags",
    "zcat users.jsonl.gz | ringhold import - --format jsonl --key id",
)


def import_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .jsonl or .csv file; `-` reads stdin.", show_default=False)
    ],
    key: Annotated[str, typer.Option("--key", metavar="FIELD", help="The field whose content is the key.")],
    index: Annotated[
        list[str] | None,
        typer.Option("--index", metavar="FIELD", help="A field to find records by; repeatable. A list gives several."),
    ] = None,
    form: Annotated[Format | None, typer.Option("--format", help="What FILE is, if its name does not say.")] = None,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Store every row of a file as a record: the value is the row as JSON.

    Bad lines are named on stderr, the others imported, and the exit code is then 1.
    """
    form = form or format_of(file)
    fields = list(dict.fromkeys(index or []))
    outcome = Outcome()
    with opened(file) as source, connect(endpoints, timeout) as client, progress_of(source) as progress:
        records = records_of(READERS[form](source), key, fields, empty_is_missing=form is Format.CSV)
        try:
            import_records(client, records, outcome, progress)
        except RowError as error:
            raise CommandFailed(f"{file}: {error}") from error
        except RingholdError as error:
            reason = f"{sentence(error)}; {outcome.imported} records were imported before"
            raise CommandFailed(reason, exit_code_of(error)) from error
    show(output, outcome.view())
    if outcome.bad:
        raise typer.Exit(ExitCode.FAILURE)


def format_of(file: str) -> Format:
    form = SUFFIXES.get(Path(file).suffix.lower())
    if form is None:
        raise CommandFailed(f"what {file} is can't be told from its name: give --format jsonl or csv", ExitCode.USAGE)
    return form


def opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(file, "rb")
    except OSError as error:
        raise unreadable(file, error) from error


def records_of(
    rows: Iterator[Row | BadRow], key: str, indexes: Sequence[str], *, empty_is_missing: bool
) -> Iterator[NewRecord | BadRow]:
    for row in rows:
        yield row if isinstance(row, BadRow) else record_of(row, key, indexes, empty_is_missing=empty_is_missing)


def import_records(
    client: "Client", records: Iterator[NewRecord | BadRow], outcome: Outcome, progress: Progress
) -> None:
    """Send all good records; raises the first error that is no fault of a single record."""
    batch = Batch()
    for record in records:
        if isinstance(record, BadRow):
            report(record, outcome)
            continue
        if not batch.takes(record):
            send(client, batch, outcome)
            progress(record.line)
            batch = Batch()
        batch.add(record)
    send(client, batch, outcome)


def send(client: "Client", batch: Batch, outcome: Outcome) -> None:
    failures: list[RingholdError] = []
    for record, result in zip(batch.records, results_of(client, batch.records), strict=True):
        if not isinstance(result, RingholdError):
            outcome.imported += 1
        elif isinstance(result, InvalidRequest):
            send_alone(client, record, outcome)
        else:
            failures.append(result)
    if failures:
        raise failures[0]


def results_of(client: "Client", records: Sequence[NewRecord]) -> "Sequence[Result]":
    """What became of each record; the same for all if the batch was refused as a whole."""
    try:
        return client.batch([operation_of(record) for record in records]) if records else []
    except InvalidRequest as error:
        return [error] * len(records)


def send_alone(client: "Client", record: NewRecord, outcome: Outcome) -> None:
    """Find out whether it is this record's fault that it was refused, or that of its company."""
    try:
        client.set(record.key, record.value, indexes=record.indexes)
        outcome.imported += 1
    except InvalidRequest as error:
        report(BadRow(record.line, sentence(error)), outcome)


def operation_of(record: NewRecord) -> "SetOperation":
    from ...api.client import Set as SetOperation

    return SetOperation(record.key, record.value, indexes=record.indexes)


def report(row: BadRow, outcome: Outcome) -> None:
    outcome.bad += 1
    typer.echo(f"line {row.line}: {' '.join(row.problem.split())}", err=True)


def progress_of(source: BinaryIO) -> AbstractContextManager[Progress]:
    """A bar over the bytes read so far, on a terminal only."""
    if not sys.stderr.isatty() or not source.seekable():
        return nullcontext(lambda _line: None)
    from .progress import file_progress

    return file_progress(source, os.fstat(source.fileno()).st_size)
