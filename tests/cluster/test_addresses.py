"""Nodes that come back elsewhere: an address is an attribute, and the cluster finds its members again by itself."""

from collections.abc import Sequence
from itertools import pairwise

from support.nodes import NodeProcess, free_ports
from support.serving import check_serves, start, store


def move(node: NodeProcess, host: str) -> None:
    """The node will start at another address, with other ports."""
    node.grpc, node.http = (f"{host}:{port}" for port in free_ports(2))


def test_a_node_comes_back_at_another_address(three: Sequence[NodeProcess]) -> None:
    """A pod keeps its volume and gets another IP: the others follow it there, though no seed names the place."""
    store(three, b"v")
    three[0].kill()
    move(three[0], "127.0.0.2")
    start(three[:1])
    check_serves(three, b"v")


def test_two_nodes_swap_their_addresses(three: Sequence[NodeProcess]) -> None:
    """Each is found at what was the other's address: nobody is taken for who was there before."""
    store(three, b"v")
    one, other = three[1:]
    for node in (one, other):
        node.kill()
    (one.grpc, one.http), (other.grpc, other.http) = (other.grpc, other.http), (one.grpc, one.http)
    start([one, other])
    check_serves(three, b"v")


def test_addresses_go_round_one_after_the_other(three: Sequence[NodeProcess]) -> None:
    """A node that starts where another one has just been is not taken for that one by those that remember it there."""
    store(three, b"v")
    first = three[2].grpc, three[2].http
    three[2].kill()
    move(three[2], "127.0.0.3")
    start(three[2:])
    three[1].kill()
    three[1].grpc, three[1].http = first
    start(three[1:2])
    check_serves(three, b"v")


def test_all_nodes_come_back_at_other_addresses(three: Sequence[NodeProcess]) -> None:
    """What each remembers of the others is wrong everywhere; the seeds, which resolve anew, are enough."""
    store(three, b"v")
    for node in three:
        node.kill()
    for number, node in enumerate(three):
        move(node, f"127.0.0.{number + 2}")
    for node in three:
        node.arguments = with_seeds(node.arguments, [each.http for each in three])
    start(three)
    check_serves(three, b"v")


def with_seeds(arguments: Sequence[str], seeds: Sequence[str]) -> list[str]:
    assert "--seeds" in arguments
    return [",".join(seeds) if before == "--seeds" else word for before, word in pairwise(["", *arguments])]
