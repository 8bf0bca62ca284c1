"""What etcd does on this machine by the same rules: three nodes, fsync on, the same load generator, keys and values.

Its requests are few and flat, so they are encoded here by hand; names and numbers of the fields are those of
`etcdserverpb` in etcd 3.4 (etcdserver/etcdserverpb/rpc.proto).
"""

import json
import shutil
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import grpc

from .bodies import VALUE, framed, key_of
from .failure import BenchmarkFailed
from .load import Stream
from .servers import HOST, NODES, CountingServers, Server, counted, free_ports, samples_of
from .workloads import BATCH_KEYS, BATCHES_IN_FLIGHT, KEYS_PER_NODE, Workload, spread

SERVICE = "etcdserverpb.KV"
REQUEST_TIMEOUT_S = 1.0
IMPORT_TIMEOUT_S = 30.0
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


def unary(method: str, servers: EtcdServers, request_of: Callable[[bytes], bytes], in_flight: int) -> Workload:
    """As many streams as Ringhold gets, one per key, to the leader, which owns all keys."""
    keys = unary_keys()

    def streams(number: int) -> list[Stream]:
        leader = servers.leader()
        return [stream(method, leader, request_of(key), share) for key, share in spread(keys, in_flight, number)]

    return Workload(f"etcd's {method}", f"{SERVICE}/{method}", streams, answer_bytes=0)


def unary_keys() -> list[bytes]:
    """As many as Ringhold gets."""
    return [key_of(number) for number in range(NODES * KEYS_PER_NODE)]


def puts(servers: EtcdServers, in_flight: int) -> Workload:
    return unary("Put", servers, put_request, in_flight)


def ranges(servers: EtcdServers, in_flight: int) -> Workload:
    """Puts the keys first."""
    call_leader(servers, "Put", map(put_request, unary_keys()))
    return unary("Range", servers, range_request, in_flight)


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
    return Workload(title, f"{SERVICE}/Txn", streams, answer_bytes=0, operations_per_request=BATCH_KEYS)


def import_records(servers: EtcdServers, count: int) -> None:
    """Put so many records, by transactions one after the other. Raises grpc.RpcError."""
    firsts = range(0, count, BATCH_KEYS)
    batches = ([key_of(number) for number in range(first, min(first + BATCH_KEYS, count))] for first in firsts)
    call_leader(servers, "Txn", map(transaction, batches))


def call_leader(servers: EtcdServers, method: str, requests: Iterable[bytes]) -> None:
    """One request after the other. Raises grpc.RpcError."""
    with grpc.insecure_channel(servers.leader()) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
        for request in requests:
            call(request, timeout=IMPORT_TIMEOUT_S)


def stream(method: str, address: str, body: bytes, in_flight: int) -> Stream:
    return Stream(address, f"/{SERVICE}/{method}", framed(body), in_flight)
