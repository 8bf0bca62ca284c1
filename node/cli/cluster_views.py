"""Answers about the cluster in their three forms; imported only once there is an answer. See docs/cli.md."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from .move_views import group_name, move_parts
from .output import Json, View, json_bytes, shown, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from ...api.client.results import ClusterStatus, Explanation, NodeStatus, Partition, Topology, UnhealthyReplica

STYLES = {
    "NORMAL": "green",
    "ALIVE": "green",
    "JOINING": "yellow",
    "LEAVING": "yellow",
    "SUSPECT": "yellow",
    "DEAD": "bold red",
    "NORMAL, cordoned": "yellow",
    "JOINING, cordoned": "yellow",
    "LEAVING, cordoned": "yellow",
    "REMOVED": "dim",
    "LEFT": "dim",
}


def status_view(status: "ClusterStatus") -> View:
    status = in_order(status)
    return View(
        table=lambda: status_table(status),
        json=lambda: {**asdict(status), "nodes": [node_json(node) for node in status.nodes]},
        plain=lambda: lines(node_words(node) for node in status.nodes),
    )


def in_order(status: "ClusterStatus") -> "ClusterStatus":
    """The nodes by their names."""
    return replace(status, nodes=tuple(sorted(status.nodes, key=lambda each: name_order(each.node.name))))


def node_json(status: "NodeStatus") -> Json:
    """The node's own fields and its figures side by side."""
    figures = asdict(status)
    return {**figures.pop("node"), **figures}


def node_words(status: "NodeStatus") -> list[object]:
    node = status.node
    return [node.name, node.state, node.liveness, node.grpc_address, status.partitions_led, status.keys, status.bytes]


def status_table(status: "ClusterStatus") -> "RenderableType":
    from rich.console import Group

    return Group(title(status), nodes_table(status), *move_parts(status), *remarks(status))


def watch_table(status: "ClusterStatus") -> "RenderableType":
    """The same with what moves on top: a terminal that is not high enough shows the beginning."""
    from rich.console import Group

    status = in_order(status)
    return Group(title(status), *move_parts(status), nodes_table(status), *remarks(status))


def title(status: "ClusterStatus") -> "Text":
    from rich.text import Text

    factor = f"  replication factor {status.replication_factor}" if status.replication_factor else ""
    text = f"cluster {status.cluster_name}  id {status.cluster_id}  epoch {status.epoch}{factor}"
    return Text(text, style="bold")


def remarks(status: "ClusterStatus") -> list["Text"]:
    return [*left_lines(status), *reluctance_lines(status), *health_lines(status), *unavailable_lines(status)]


def nodes_table(status: "ClusterStatus") -> "Table":
    table = plain_table("node", "state", "liveness", "gRPC", "HTTP", "zone")
    for column in ("led", "replicas", "keys", "bytes", "engine", "version", "up"):
        table.add_column(column, justify="right")
    for node in status.nodes:
        if node.node.state != "REMOVED":
            table.add_row(*node_cells(node))
    return table


def left_lines(status: "ClusterStatus") -> list["Text"]:
    """The topology remembers for ever who was removed, so that it is never let in again; a number tells enough."""
    from rich.text import Text

    count = sum(each.node.state == "REMOVED" for each in status.nodes)
    return [Text(f"{count} nodes have left for good" if count > 1 else "a node has left for good", "dim")] * bool(count)


def reluctance_lines(status: "ClusterStatus") -> list["Text"]:
    from rich.text import Text

    return [
        Text(f"{each.node.name} takes no leaderships: {', '.join(each.reluctant_for)}", style="yellow")
        for each in status.nodes
        if each.reluctant_for
    ]


def health_lines(status: "ClusterStatus") -> list["Text"]:
    """What is to be rebuilt where, and what the scrubs of a node have found."""
    from rich.text import Text

    lines: list[Text] = []
    for each in status.nodes:
        if each.unhealthy:
            lines.append(Text(f"{each.node.name} rebuilds {len(each.unhealthy)}:", style="yellow"))
            lines += [Text(f"  {unhealthy_text(replica)}", style="yellow") for replica in each.unhealthy]
        if each.damage_found:
            found = f"{each.node.name} has found damage on its disk {each.damage_found} times"
            lines.append(Text(f"{found}; last read as a whole: {age_text(each.scrub_age_s)}", style="yellow"))
    return lines


def unhealthy_text(replica: "UnhealthyReplica") -> str:
    return f"{group_name(replica.partition)} {replica.health.lower()}: {replica.reason}"


def age_text(age_s: float | None) -> str:
    """When something was, for people.

    >>> age_text(None), age_text(59.4), age_text(7_300.0)
    ('not since its start', '59 s ago', '2 h ago')
    """
    if age_s is None:
        return "not since its start"
    return f"{age_s:.0f} s ago" if age_s < 3_600 else f"{age_s / 3_600:.0f} h ago"


def unavailable_lines(status: "ClusterStatus") -> list["Text"]:
    from rich.text import Text

    lines: list[Text] = []
    for what, numbers in (
        ("partitions without a reachable leader", status.unavailable_partitions),
        ("of them have no healthy copy anywhere, and do not come back by themselves", status.lost_partitions),
    ):
        if numbers:
            lines.append(Text(f"{len(numbers)} {what}: {', '.join(map(str, numbers))}", style="bold red"))
    return lines


def node_cells(status: "NodeStatus") -> list["Text"]:
    from rich.text import Text

    node = status.node
    state = f"{node.state}, cordoned" if node.cordoned else node.state
    place = [node.name, state, node.liveness, node.grpc_address, node.http_address, node.zone or "-"]
    figures = figures_of(status) if status.reachable else ["no answer", *["-"] * 6]
    return [Text(cell, style=STYLES.get(cell, "")) for cell in [*place, *figures]]


def figures_of(status: "NodeStatus") -> list[str]:
    counts = [status.partitions_led, status.replicas, status.keys]
    up = f"{status.uptime_s:,.0f} s"
    return [*map(str, counts), size_text(status.bytes), status.engine, status.version, up]


def ring_view(topology: "Topology") -> View:
    topology = replace(topology, nodes=tuple(sorted(topology.nodes, key=lambda node: name_order(node.name))))
    return View(
        table=lambda: ring_table(topology),
        json=lambda: asdict(topology),
        plain=lambda: lines(
            [partition.number, partition.leader or "-", ",".join(partition.replicas)]
            for partition in topology.partitions
        ),
    )


def ring_table(topology: "Topology") -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    names = [node.name for node in topology.nodes]
    table = plain_table()
    table.add_column("partition", justify="right")
    for name in names:
        table.add_column(name, justify="center", footer=str(led_by(name, topology.partitions)))
    table.columns[0].footer = "led"
    table.show_footer = True
    for partition in topology.partitions:
        table.add_row(str(partition.number), *(role(name, partition) for name in names))
    return Group(table, Text("● leads  ○ holds a replica", style="dim"))


def led_by(name: str, partitions: "Sequence[Partition]") -> int:
    return sum(partition.leader == name for partition in partitions)


def role(name: str, partition: "Partition") -> str:
    if partition.leader == name:
        return "[green]●[/]"
    return "○" if name in partition.replicas else ""


def explanation_view(explanation: "Explanation") -> View:
    return View(
        table=lambda: explanation_table(explanation),
        json=lambda: explanation_json(explanation),
        plain=lambda: lines([name, *values] for name, *values in explanation_words(explanation)),
    )


def explanation_json(explanation: "Explanation") -> Json:
    indexes = {name: [json_bytes(value) for value in values] for name, values in explanation.indexes.items()}
    return {**asdict(explanation), "hash": f"{explanation.hash:016x}", "indexes": indexes}


def explanation_words(explanation: "Explanation") -> list[list[str]]:
    place = [
        ["key", shown(explanation.key)],
        ["hash", f"{explanation.hash:016x}"],
        ["partition", str(explanation.partition)],
        ["leader", explanation.leader or "-"],
        ["replicas", ",".join(explanation.replicas)],
        ["epoch", str(explanation.topology_epoch)],
        ["exists", "yes" if explanation.exists else "no"],
    ]
    return place + (record_words(explanation) if explanation.exists else [])


def record_words(explanation: "Explanation") -> list[list[str]]:
    figures = [
        ["version", str(explanation.version)],
        ["created", str(explanation.create_version)],
        ["value", f"{explanation.value_bytes} B"],
    ]
    entries = [(name, value) for name, values in explanation.indexes.items() for value in values]
    return figures + [["index", f"{shown(name.encode())}={shown(value)}"] for name, value in entries]


def explanation_table(explanation: "Explanation") -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, text in explanation_words(explanation):
        table.add_row(Text(name, style="dim"), Text(text))
    return table


def name_order(name: str) -> list[str | int]:
    """Sorts names as people do.

    >>> sorted(["node-10", "node-9"], key=name_order)
    ['node-9', 'node-10']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def plain_table(*columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(*columns, box=SIMPLE_HEAD)


def lines(rows: Any) -> bytes:
    """One line per row, words apart by tabs."""
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
