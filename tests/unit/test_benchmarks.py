"""The arithmetic of the benchmarks: a wrong ratio would be believed."""

import doctest
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, count, repeat
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import bodies, echo, etcd, load, workloads
from benchmarks.__main__ import figures_of
from benchmarks.bodies import framed, owned_keys, owner_of
from benchmarks.etcd import transaction, varint
from benchmarks.failover import Outage, Writer, figures_of_failover, first_acknowledged, waits_of
from benchmarks.failure import RunVoid
from benchmarks.figures import Figure, Pair, Run, latency_against, rate_against_echo, rate_against_etcd, summary
from benchmarks.load import Sent, Stream, parsed
from benchmarks.rounds import ATTEMPTS_MAX, Bench, Pace
from benchmarks.servers import Cluster, EchoServers
from benchmarks.workloads import Workload
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.ring.hashing import partition_of

PARTITIONS = 16


def pair(echo_rate: int, product_rate: int, latency_us: int = 0) -> Pair:
    """A second of each, in which every operation took `latency_us` and a millisecond of CPU."""
    latencies = (latency_us,) if latency_us else ()
    return Pair(
        Run(echo_rate, 1.0, echo_rate / 1000, latencies), Run(product_rate, 1.0, product_rate / 1000, latencies)
    )


def pair_with_etcd(product_rate: int, etcd_rate: int) -> Pair:
    return replace(pair(1000, product_rate), etcd=Run(etcd_rate, 1.0, 0.1))


def topology(owners: list[int]) -> cluster_pb2.TopologyResponse:
    nodes = [cluster_pb2.Node(name=f"node-{number}") for number in range(3)]
    partitions = [cluster_pb2.Partition(leader=owner) for owner in owners]
    return cluster_pb2.TopologyResponse(nodes=nodes, partitions=partitions)


@pytest.mark.parametrize("module", [bodies, echo, etcd, load, workloads])
def test_examples_hold(module: ModuleType) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(module).failed == 0


def test_frame_is_flag_length_message() -> None:
    """A gRPC frame says in five bytes that it is not compressed and how long it is."""
    assert framed(bytes(300)) == b"\x00" + (300).to_bytes(4, "big") + bytes(300)


def test_keys_are_their_owners() -> None:
    """Each node gets as many keys as were asked for, all its own, no two of one partition."""
    owners = [partition % 3 for partition in range(PARTITIONS)]
    keys = owned_keys(topology(owners), 4)
    partitions = [[partition_of(key, PARTITIONS) for key in own] for own in keys]
    assert [[owners[partition] for partition in own] for own in partitions] == [[node] * 4 for node in range(3)]
    assert all(len(set(own)) == 4 for own in partitions)


def test_owners_are_looked_up_anew() -> None:
    """A key's owner is whom the topology names now; nobody, if it names nobody."""
    (key, *_), _, _ = owned_keys(topology([partition % 3 for partition in range(PARTITIONS)]), 4)
    assert owner_of(topology([2] * PARTITIONS), key) == 2
    assert owner_of(cluster_pb2.TopologyResponse(partitions=[cluster_pb2.Partition()] * PARTITIONS), key) is None


def test_keys_of_another_start_are_other_keys() -> None:
    """Samples that begin apart have no key in common."""
    owners = topology([partition % 3 for partition in range(PARTITIONS)])
    samples = [{key for own in owned_keys(owners, 4, first) for key in own} for first in (0, 1_000)]
    assert samples[0].isdisjoint(samples[1])


def test_a_node_with_too_few_partitions_is_refused() -> None:
    """No search for keys that can't exist."""
    with pytest.raises(ValueError, match="known to own 4 partitions"):
        owned_keys(topology([0] * PARTITIONS), 4)


def test_a_ratio_is_taken_within_its_round() -> None:
    """A round in which the whole machine was slow moves no ratio."""
    rounds = [pair(1000, 500), pair(100, 50), pair(1000, 500)]
    assert rate_against_echo("get", "Get", rounds, 0.4).value == 0.5
    assert summary("get", "Get", rounds).rate_ratio == 0.5


def test_workloads_are_compared_round_by_round() -> None:
    """So is the ratio of two workloads' latencies."""
    rounds, others = [pair(9, 800, 30), pair(9, 80, 300)], [pair(9, 100, 10), pair(9, 10, 100)]
    assert latency_against("page", "Page", rounds, others, 8.0).value == 3.0


def test_cpu_is_counted_per_thousand_operations() -> None:
    """CPU seconds are those of all servers per 1,000 operations; latencies that were not taken are absent."""
    found = summary("get", "Get", [pair(2000, 1000)])
    assert (found.cpu_s_per_1000, found.cpu_ratio, found.latency_ms) == (1.0, 1.0, None)


@pytest.mark.parametrize(("value", "is_at_least", "reached"), [(2, True, False), (3, True, True), (2, False, True)])
def test_a_target_is_a_floor_or_a_ceiling(value: float, *, is_at_least: bool, reached: bool) -> None:
    """A figure on its target has reached it, from above or from below."""
    assert Figure("name", "title", value, "unit", 2.5, is_at_least=is_at_least).reached is reached


def test_a_silent_generator_voids_the_run() -> None:
    """A report of h2load that says nothing is not a run without errors."""
    with pytest.raises(RunVoid, match="reports nothing"):
        parsed("could not connect\n")


def test_etcd_is_compared_within_the_round() -> None:
    """The ratio to etcd is of runs of one round; without etcd there is none, and no figure."""
    rounds = [pair_with_etcd(500, 1000), pair_with_etcd(50, 100)]
    assert rate_against_etcd("batch", "Batch", rounds, 0.75).value == 0.5
    assert summary("batch", "Batch", rounds).etcd_rate_ratio == 0.5
    assert summary("batch", "Batch", [pair(1000, 500)]).etcd_rate_ratio is None
    assert list(figures_of({"batch": [pair(1000, 500)]}, frozenset({"batch"}))) == []


def test_an_etcd_transaction_is_encoded_as_protobuf_does() -> None:
    """Field numbers and lengths of TxnRequest, RequestOp and PutRequest, byte by byte; long lengths take two bytes."""
    put = b"\x0a\x01k\x12\x64" + bodies.VALUE
    assert len(put) == 105
    assert transaction([b"k"]) == b"\x12\x6b\x12\x69" + put
    assert varint(127) + varint(128) == b"\x7f\x80\x01"


def test_failover_is_judged_by_its_slowest_partition() -> None:
    """A kill took as long as its slowest partition; the figures are the median and the worst of the kills."""
    found = [Outage([0.5, slowest], 1.0, ["InDoubt"] if slowest == 3.0 else [], 2.0) for slowest in (1.0, 1.5, 3.0)]
    assert [figure.value for figure in figures_of_failover(found)] == [1.5, 3.0, 1]
    assert [(waits.median_s, waits.worst_s) for waits in waits_of(found)[:2]] == [(1.5, 3.0), (0.75, 3.0)]


def test_a_partition_is_back_with_its_first_write_through_any_gateway() -> None:
    """Of the writers of one key the first counts; a key without a write is not back."""

    async def write(_: bytes) -> None:
        """Never called."""

    times = [(b"a", 2.0), (b"a", 1.0), (b"b", None), (b"c", 3.0)]
    writers = [Writer(key, write, 0.0, first_at=at) for key, at in times]
    assert first_acknowledged(writers) == {b"a": 1.0, b"c": 3.0}


def bench_without_servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Every run takes a second and is good."""
    second = Run(100, 1.0, 0.1)
    monkeypatch.setattr("benchmarks.rounds.run", lambda *_: second)
    monkeypatch.setattr("benchmarks.rounds.drive", lambda *_, **__: Sent(100, 1.0, 500, ()))
    return Bench(Cluster(folder, "sqlite"), EchoServers(folder), None, Pace(1, 1.0), lambda _: None)


def workload_at(owners: Iterator[int]) -> Workload:
    """Its streams go to whom `owners` names each time that it is asked."""
    return Workload("set", "Set", "KV/Set", lambda _: [Stream(f"node-{next(owners)}", "", b"", 1)], answer_bytes=0)


def test_a_run_during_which_an_owner_moved_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts only if its streams went to the owners from beginning to end; moves without end void it."""
    bench = bench_without_servers(tmp_path, monkeypatch)
    bench._echo_of.update({f"node-{number}": "echo" for number in range(4 * ATTEMPTS_MAX)})
    assert len(bench.measure([workload_at(chain([1, 1], [1, 2], repeat(2)))], {})["set"]) == 1
    with pytest.raises(RunVoid, match="owners moved"):
        bench.measure([workload_at(count())], {})
