"""The progress bar of `import`, on stderr; imported only on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def file_progress(source: BinaryIO, size: int) -> Iterator[Callable[[int], None]]:
    """Shows how far `source` is read; the yielded function is told the current line."""
    columns = (TextColumn("line {task.fields[line]}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("import", total=size, line=0)
        yield lambda line: progress.update(task, completed=source.tell(), line=line)
