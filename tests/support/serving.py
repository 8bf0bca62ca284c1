"""Some records in a cluster of processes, and whether each node serves them."""

import re
from collections.abc import Sequence
from functools import partial

from ringhold import Client

from .nodes import NodeProcess, metrics_of, wait_until

KEYS = [b"%d" % number for number in range(40)]


def store(nodes: Sequence[NodeProcess], value: bytes) -> None:
    with Client([node.grpc for node in nodes]) as client:
        for key in KEYS:
            client.set(key, value)


def check_serves(nodes: Sequence[NodeProcess], value: bytes) -> None:
    """Each node leads its share, so the others reach it; and through each all is read, so it reaches them."""
    for node in nodes:
        wait_until(partial(leads, node), f"{node.name} leads\n{node.output}")
    for node in nodes:
        with Client([node.grpc]) as client:
            assert {client.get(key).value for key in KEYS} == {value}
    store(nodes, value + b"'")


def leads(node: NodeProcess) -> int:
    found = re.search(r"^ringhold_partitions_led (\d+)", metrics_of(node), re.MULTILINE)
    assert found is not None
    return int(found[1])


def start(nodes: Sequence[NodeProcess]) -> None:
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_until_ready()
