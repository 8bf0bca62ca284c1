"""`make demo`: three nodes on this machine, a real data set, and a look at it through different nodes.

The data set is the time zones of the world, from the package `tzdata`: `zone1970.tab` (zones, by the countries that
use them) and `iso3166.tab` (the countries' names). The cluster then runs until Ctrl-C; with stdin closed, or with
CI=true, it stops by itself.
"""

import asyncio
import itertools
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import grpc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ringhold import Client
from ringhold.api.client import Set
from ringhold.api.errors import RingholdError
from ringhold.api.proto.ringhold.v1 import kv_pb2, kv_pb2_grpc
from ringhold.node.cli.dev import local_nodes, refuse_failures, reporter
from ringhold.node.cli.failure import CommandFailed
from ringhold.node.cli.processes import LocalCluster, LocalNode, ends_before, stop_on_signals

NODES = 3
WIDTH = 100
BATCH = 100
ZONE, COUNTRY, REGION = "Europe/Zurich", "BR", "Antarctica"


def zones() -> Iterator[dict[str, Any]]:
    """The rows of zone1970.tab, with the names of the countries."""
    folder = files("tzdata.zoneinfo")
    countries = dict(row[:2] for row in tab_rows((folder / "iso3166.tab").read_text()))
    for codes, coordinates, zone, *comment in tab_rows((folder / "zone1970.tab").read_text()):
        codes_of_zone = codes.split(",")
        yield {
            "zone": zone,
            "coordinates": coordinates,
            "country_codes": codes_of_zone,
            "countries": [countries[code] for code in codes_of_zone],
            "comment": comment[0] if comment else "",
        }


def tab_rows(text: str) -> Iterator[list[str]]:
    return (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))


def operation(zone: dict[str, Any]) -> Set:
    """Key: the zone's name. Value: the row as JSON. Found by each of its countries, and by its region."""
    indexes = {"country": zone["country_codes"], "region": [zone["zone"].partition("/")[0]]}
    return Set(zone["zone"], json.dumps(zone, ensure_ascii=False), indexes=indexes)


class Terminal(Console):
    """Rich's console, but a reader that goes away is an error as any other, so that the nodes are stopped."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise BrokenPipeError from None


class Gateway:
    """One node, asked by plain gRPC: unlike `Client`, this never goes to a key's owner itself."""

    def __init__(self, node: LocalNode) -> None:
        self.name = node.name
        self._channel = grpc.insecure_channel(node.grpc)
        self._kv = kv_pb2_grpc.KVStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def get(self, key: str) -> kv_pb2.GetResponse:
        response: kv_pb2.GetResponse = self._kv.Get(kv_pb2.GetRequest(key=key.encode()), timeout=10)
        return response

    def find(self, index: str, value: str) -> list[str]:
        request = kv_pb2.GetByIndexRequest(index=index, equals=value.encode(), limit=1000)
        return [match.key.decode() for match in self._kv.GetByIndex(request, timeout=10).matches]


class Story:
    """What the demo does once the nodes serve, told on the console."""

    def __init__(self, nodes: Sequence[LocalNode], console: Console) -> None:
        self._nodes = nodes
        self._console = console
        self._steps = itertools.count(1)

    def tell(self) -> None:
        rows = list(zones())
        with Client([node.grpc for node in self._nodes]) as client:
            self._import(client, rows)
            self._read()
            self._query("country", COUNTRY, self._nodes[2])
            self._query("region", REGION, self._nodes[0])
            self._show_places(client, [row["zone"] for row in rows])
        self._invite()

    def show_nodes(self, seconds: float) -> None:
        self._step(f"{len(self._nodes)} nodes found each other and serve, {seconds:.1f} s after their start")
        table = Table("node", "gRPC", "HTTP", box=SIMPLE_HEAD)
        for node in self._nodes:
            table.add_row(node.name, node.grpc, node.http)
        self._console.print(table)

    def _step(self, text: str) -> None:
        self._console.print(Text(f"{next(self._steps)}. {text}", style="bold"))

    def _import(self, client: Client, rows: Sequence[dict[str, Any]]) -> None:
        began = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            for result in client.batch([operation(row) for row in rows[start : start + BATCH]]):
                if isinstance(result, Exception):
                    raise result
        spent_ms = (time.perf_counter() - began) * 1000
        self._step(f"{len(rows)} time zones imported in {spent_ms:.0f} ms, synced to disk\n")

    def _read(self) -> None:
        self._step(f"{ZONE} read through each of the nodes")
        table = Table("through", "version", "value", box=SIMPLE_HEAD)
        for node in self._nodes:
            with Gateway(node) as gateway:
                record = gateway.get(ZONE)
            table.add_row(
                gateway.name, str(record.version), Text(record.value.decode(), overflow="ellipsis", no_wrap=True)
            )
        self._console.print(table)

    def _query(self, index: str, value: str, node: LocalNode) -> None:
        with Gateway(node) as gateway:
            found = gateway.find(index, value)
        self._step(f"{index} = {value}, asked of {node.name}: {len(found)} zones, from all nodes, in order")
        self._print_keys(Text(key) for key in found)

    def _show_places(self, client: Client, keys: Sequence[str]) -> None:
        self._step("Where each key lives: its hash gives the partition (#), the partition its node")
        topology = client.topology()
        owners = {key: client.explain(key) for key in keys}
        for node in self._nodes:
            led = sum(partition.leader == node.name for partition in topology.partitions)
            own = sorted(key for key, place in owners.items() if place.leader == node.name)
            self._console.print(Text(f"   {node.name}: {len(own)} keys in {led} partitions", style="green"))
            self._print_keys(Text.assemble(key, (f"#{owners[key].partition}", "dim")) for key in own)

    def _print_keys(self, keys: Iterable[Text]) -> None:
        self._console.print(Padding(Text("  ").join(keys), (0, 0, 1, 3)))

    def _invite(self) -> None:
        command = Path(sys.executable).with_name("ringhold")
        endpoints = ",".join(node.grpc for node in self._nodes)
        self._step("Your turn, in another terminal:\n")
        for line in (
            f"export RINGHOLD_ENDPOINTS={endpoints}",
            f"{command} get {ZONE}",
            f"{command} find country {COUNTRY} --values",
            f"{command} set Mars/Olympus '{{}}' --index region=Mars",
            f"{command} explain Mars/Olympus",
            f"{command} status",
        ):
            self._console.print(Text(f"   {line}", style="cyan"), soft_wrap=True)


async def run(folder: Path, console: Console) -> None:
    """Start the nodes, tell the story, and keep them until a signal or the end of stdin."""
    nodes = local_nodes(folder, free_ports(2 * NODES))
    story = Story(nodes, console)
    cluster = LocalCluster(nodes, reporter(), ["--log-level", "warning"])
    stop = stop_on_signals(cluster)
    began = time.perf_counter()
    async with cluster:
        if await ends_before(cluster.wait_until_ready(), stop):
            story.show_nodes(time.perf_counter() - began)
            await ends_before(asyncio.to_thread(story.tell), stop)
        if not stop.is_set():
            await keep(cluster, stop, console)
        refuse_failures(await cluster.stop())
    console.print("   stopped")


async def keep(cluster: LocalCluster, stop: asyncio.Event, console: Console) -> None:
    if os.environ.get("CI") == "true" or sys.stdin is None:
        return
    console.print("\n   The cluster runs until Ctrl-C.", style="bold")
    stop_at_end_of_stdin(stop)
    if await ends_before(cluster.wait_until_dead(), stop):
        raise CommandFailed("no node is left")


def stop_at_end_of_stdin(stop: asyncio.Event) -> None:
    """Whoever starts the demo without a terminal ends it by closing its stdin."""
    if sys.stdin.isatty():  # reading it would stop a demo in the background
        return
    loop = asyncio.get_running_loop()

    def wait_for_end() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, daemon=True, name="end of stdin").start()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, taken all at once so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> int:
    console = Terminal(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="ringhold-demo-") as folder:
            asyncio.run(run(Path(folder), console))
    except (CommandFailed, RingholdError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
