"""Nodes that are known by names whose addresses change, as pods of a StatefulSet are; needs root, for hosts of its own.

Each node sees the test's list of hosts in place of the machine's, in a mount namespace: what resolves names is the
system's and gRPC's own.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from support.nodes import NodeProcess, free_ports, running, wait_until
from support.serving import check_serves, start, store

DOMAIN = "ring.test"
ON_HOSTS = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')
"""Run a command, which comes after the list of hosts."""


class Pods:
    """Three nodes with the same ports, each on an address of its own; `hosts` says where names are now."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._hosts = folder / "hosts"
        self._ports = free_ports(2)
        names = [f"node-{number}" for number in (1, 2, 3)]
        self.nodes = [NodeProcess(name, "", "", folder / name) for name in names]
        self.give({name: f"127.0.0.{number}" for number, name in enumerate(names, 11)})

    def give(self, addresses: Mapping[str, str]) -> None:
        """The pods have other addresses, and their names lead there."""
        self.place(addresses)
        self.tell(addresses)

    def place(self, addresses: Mapping[str, str]) -> None:
        """Nodes that are started from now on bind to these."""
        grpc, http = self._ports
        seeds = ",".join(f"{name}.{DOMAIN}:{http}" for name in addresses)
        for node in self.nodes:
            address, host = addresses[node.name], f"{node.name}.{DOMAIN}"
            node.grpc, node.http = f"{address}:{grpc}", f"{address}:{http}"
            advertised = ["--advertise-grpc", f"{host}:{grpc}", "--advertise-http", f"{host}:{http}"]
            node.arguments = ["--seeds", seeds, "--expect", str(len(addresses)), *advertised]
            node.within = [*ON_HOSTS, str(self._hosts)]

    def tell(self, addresses: Mapping[str, str]) -> None:
        """Names lead there from now on."""
        lines = [f"{address} {name}.{DOMAIN}\n" for name, address in addresses.items()]
        self._hosts.write_text("".join(["127.0.0.1 localhost\n", *lines]))  # the same file: it is mounted


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    pods = Pods(tmp_path / "pods")
    tried = subprocess.run([*pods.nodes[0].within, "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"this user may not mount a file: {tried.stderr.decode().strip()}")
    with running(pods.nodes):
        yield pods


def kill(nodes: Sequence[NodeProcess]) -> None:
    for node in nodes:
        node.kill()


def misses(node: NodeProcess, other: NodeProcess) -> bool:
    """Whether it has got no answer, or a wrong one, where it looks for the other."""
    return f"name={other.name} state=SUSPECT" in node.output


def test_two_names_swap_their_addresses(pods: Pods) -> None:
    """Two pods come back, each where the other was: who stayed finds each by its name."""
    store(pods.nodes, b"v")
    kill(pods.nodes[1:])
    pods.give({"node-1": "127.0.0.11", "node-2": "127.0.0.13", "node-3": "127.0.0.12"})
    start(pods.nodes[1:])
    check_serves(pods.nodes, b"v")


def test_names_are_told_late_that_they_have_swapped(pods: Pods) -> None:
    """Each is looked for where the other one is, and says that it is not; until the names are asked again."""
    store(pods.nodes, b"v")
    kill(pods.nodes[1:])
    swapped = {"node-1": "127.0.0.11", "node-2": "127.0.0.13", "node-3": "127.0.0.12"}
    pods.place(swapped)
    for node in pods.nodes[1:]:
        node.start()
    for node, other in permutations(pods.nodes[1:], 2):
        wait_until(partial(misses, node, other), f"{node.name} looks for {other.name} where it is not")
    pods.tell(swapped)
    for node in pods.nodes:
        node.wait_until_ready()
    check_serves(pods.nodes, b"v")


@pytest.mark.long
def test_a_name_leads_to_a_place_where_nobody_has_been(pods: Pods) -> None:
    """The usual restart of a pod: same name, new address."""
    store(pods.nodes, b"v")
    kill(pods.nodes[:1])
    pods.give({"node-1": "127.0.0.21", "node-2": "127.0.0.12", "node-3": "127.0.0.13"})
    start(pods.nodes[:1])
    check_serves(pods.nodes, b"v")


@pytest.mark.long
def test_all_names_lead_elsewhere(pods: Pods) -> None:
    """All are started anew on new addresses: what they remember are names, and these are right."""
    store(pods.nodes, b"v")
    kill(pods.nodes)
    pods.give({"node-1": "127.0.0.13", "node-2": "127.0.0.11", "node-3": "127.0.0.24"})
    start(pods.nodes)
    check_serves(pods.nodes, b"v")
