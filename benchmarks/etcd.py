"""What etcd does on this machine by the same rules: three nodes, fsync on, the same load generator, keys and values.

Its requests are few and flat, so they are encoded here by hand; names and numbers of the fields are those of
`etcdserverpb` in etcd 3.4 (etcdserver/etcdserverpb/rpc.proto).
"""

import json
import shutil
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from .bodies import VALUE, framed, key_of
from .failure import BenchmarkFailed
from .load import Stream
from .servers import HOST, NODES, CountingServers, Server, counted, free_ports, samples_of
from .workloads import BATCH_KEYS, BATCHES_IN_FLIGHT, IN_FLIGHT, KEYS_PER_NODE, Workload, shared

SERVICE = "etcdserverpb.KV"
REQUEST_TIMEOUT_S = 1.0
LENGTH_DELIMITED = 2
"""The wire type of bytes and of messages in messages."""


def is_installed() -> bool:
    return shutil.which("etcd") is not None


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first (protobuf's encoding of numbers).

    >>> varint(300)
    b'\\xac\\x02'
    """
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, or of a message.

    >>> field(1, b"key")
    b'\\n\\x03key'
    """
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(content)) + content


def put_request(key: bytes) -> bytes:
    """PutRequest: key = 1, value = 2."""
    return field(1, key) + field(2, VALUE)


def range_request(key: bytes) -> bytes:
    """RangeRequest: key = 1; without `serializable` it is linearizable."""
    return field(1, key)


def transaction(keys: Sequence[bytes]) -> bytes:
    """TxnRequest: success = 2, of RequestOp: request_put = 2; it compares nothing, so it always succeeds."""
    return b"".join(field(2, field(2, put_request(key))) for key in keys)


class EtcdServers(CountingServers):
    """A new cluster of three members."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * NODES)
        clients = [f"{HOST}:{port}" for port in ports[:NODES]]
        peers = [f"http://{HOST}:{port}" for port in ports[NODES:]]
        members = ",".join(f"etcd-{number}={peer}" for number, peer in enumerate(peers))
        super().__init__(
            folder,
            [
                (client, member_command(f"etcd-{number}", folder, f"http://{client}", peer, members))
                for number, (client, peer) in enumerate(zip(clients, peers, strict=True))
            ],
        )

    def is_ready(self, server: Server) -> bool:
        """Whether it says that its cluster has a leader."""
        try:
            with urllib.request.urlopen(f"http://{server.address}/health", timeout=REQUEST_TIMEOUT_S) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:  # refused, or 503
            return False

    def finished_calls(self) -> Counter[tuple[str, str]]:
        samples = samples_of(self.addresses, "grpc_server_handled")
        return counted(
            (f"{labels['grpc_service']}/{labels['grpc_method']}", labels["grpc_code"], sample.value)
            for sample in samples
            if (labels := sample.labels) and labels["grpc_service"] == SERVICE
        )

    def leader(self) -> str:
        """The address of the member that leads. Raises BenchmarkFailed if none does."""
        leading = [address for address in self.addresses if leads(address)]
        if not leading:
            raise BenchmarkFailed("no member of etcd says that it leads")
        return leading[0]


def leads(address: str) -> bool:
    """Whether the member says that it is the leader."""
    request = urllib.request.Request(f"http://{address}/v3/maintenance/status", data=b"{}")
    with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:
        status = json.load(answer)
    return bool(status["leader"] == status["header"]["member_id"])


def member_command(name: str, folder: Path, client: str, peer: str, members: str) -> list[str]:
    flags = {
        "name": name,
        "data-dir": str(folder / name),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": members,
        "initial-cluster-state": "new",
        "logger": "zap",
        "log-level": "warn",
    }
    return ["etcd", *(f"--{flag}={value}" for flag, value in flags.items())]


def etcd_workloads(servers: EtcdServers) -> Mapping[str, Workload]:
    """What etcd does beside the workload of the name: unary calls as many at a time, transactions as large."""
    keys = [key_of(number) for number in range(NODES * KEYS_PER_NODE)]
    puts = {key: put_request(key) for key in keys}
    ranges = {key: range_request(key) for key in keys}
    return {
        "set": unary("set", "Put", servers, puts),
        "get_owner": unary("get_owner", "Range", servers, ranges),
        "batch": transactions(servers),
    }


def unary(name: str, method: str, servers: EtcdServers, bodies: Mapping[bytes, bytes]) -> Workload:
    """One stream per key, to the leader, which owns all keys."""
    shares = shared(IN_FLIGHT, len(bodies))

    def streams(_: int) -> list[Stream]:
        leader = servers.leader()
        return [stream(method, leader, body, share) for body, share in zip(bodies.values(), shares, strict=True)]

    return Workload(name, f"etcd's {method}", f"{SERVICE}/{method}", streams, answer_bytes=0)


def transactions(servers: EtcdServers) -> Workload:
    """As many at a time as batches, with the same keys, to all members in turn."""
    bodies = [
        transaction([key_of(BATCH_KEYS * slot + number) for number in range(BATCH_KEYS)])
        for slot in range(BATCHES_IN_FLIGHT)
    ]

    def streams(_: int) -> list[Stream]:
        addresses = servers.addresses
        return [stream("Txn", addresses[slot % len(addresses)], body, 1) for slot, body in enumerate(bodies)]

    title = f"etcd's transactions of {BATCH_KEYS}"
    return Workload("batch", title, f"{SERVICE}/Txn", streams, answer_bytes=0, operations_per_request=BATCH_KEYS)


def stream(method: str, address: str, body: bytes, in_flight: int) -> Stream:
    return Stream(address, f"/{SERVICE}/{method}", framed(body), in_flight)
