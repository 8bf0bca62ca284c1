"""Looks at the cluster again and again, until it is settled or a node is gone. Imported by the commands that wait."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ...api.errors import RingholdError
from .cluster_views import status_view, watch_table
from .failure import CommandFailed, ExitCode, exit_code_of, sentence
from .move_views import News, news_between, tells_moves
from .output import Form, console, json_line, show_bytes

if TYPE_CHECKING:
    from ...api.client import Client, ClusterStatus, Node

PAUSE_S = 1.0
"""Seconds between two looks: each asks every node."""


def watch(client: "Client", form: Form) -> None:
    """Show the cluster until it is settled: on a terminal as a table that lives, else what happens, line by line."""
    if form is Form.TABLE and sys.stdout.isatty():
        watch_table_live(client)
    else:
        watch_lines(client, form)


def watch_table_live(client: "Client") -> None:
    from rich.live import Live

    with Live(console=console(), auto_refresh=False) as live:
        for status in until_settled(client):
            live.update(watch_table(status), refresh=True)


def watch_lines(client: "Client", form: Form) -> None:
    before: ClusterStatus | None = None
    for status in until_settled(client):
        news = news_between(before, status)
        if form is Form.JSON and news:
            show_bytes(json_line(status_view(status).json()))
        elif form is not Form.JSON:
            show_bytes(b"".join(news_line(each, form) for each in news))
        sys.stdout.flush()  # whoever reads the pipe wants to know it now
        before = status


def news_line(news: News, form: Form) -> bytes:
    text = "\t".join(map(str, news.words)) if form is Form.PLAIN else news.sentence
    return f"{text}\n".encode()


def until_settled(client: "Client") -> "Iterator[ClusterStatus]":
    for status in statuses(client):
        if not tells_moves(status):
            raise CommandFailed("the node that answered is of an older release, and does not say what moves")
        yield status
        if status.is_settled:
            return


def statuses(client: "Client") -> "Iterator[ClusterStatus]":
    """Look after look, for ever."""
    while True:
        yield client.status()
        time.sleep(PAUSE_S)


def wait_until_gone(client: "Client", name: str, epoch: int) -> None:
    """Wait until the node, whose leaving is in `epoch`, has left. Raises CommandFailed if that is not to be seen."""
    try:
        with progress_of(name) as tell:
            until_removed(statuses(client), name, epoch, tell)
    except KeyboardInterrupt:
        message = f"the waiting was stopped; {goes_on(name)}, `ringhold node keep {name}` would take it back"
        raise CommandFailed(message, ExitCode.INTERRUPTED) from None
    except RingholdError as error:
        raise CommandFailed(
            f"the waiting broke off: {sentence(error)}; {goes_on(name)}", exit_code_of(error)
        ) from error


def goes_on(name: str) -> str:
    return f"{name} goes on leaving, see `ringhold status`"


def until_removed(
    looks: "Iterable[ClusterStatus]", name: str, epoch: int, tell: "Callable[[ClusterStatus], None]"
) -> None:
    """Look until the node has left, and tell each look before. Raises CommandFailed if it stays."""
    node_id: str | None = None
    for status in looks:
        if status.epoch < epoch:
            continue  # of a node that has not heard of the change yet
        node = bearer(status, name) if node_id is None else by_id(status, node_id)
        if node is None or node.state == "REMOVED":
            return
        if node.state != "LEAVING":
            raise CommandFailed(f"{name} stays: somebody has taken its decommission back")
        node_id = node.id  # its name may be given to another node as soon as it is gone
        tell(status)


def bearer(status: "ClusterStatus", name: str) -> "Node | None":
    """The node that has the name now."""
    nodes = (each.node for each in status.nodes)
    return next((node for node in nodes if node.name == name and node.state != "REMOVED"), None)


def by_id(status: "ClusterStatus", node_id: str) -> "Node | None":
    return next((each.node for each in status.nodes if each.node.id == node_id), None)


def progress_of(name: str) -> "AbstractContextManager[Callable[[ClusterStatus], None]]":
    """A bar that says how far it is, on a terminal only."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _status: None)
    from .progress import leave_progress

    return leave_progress(name)
