"""The arithmetic of the benchmarks: a wrong ratio would be believed."""

import doctest
from types import ModuleType

import pytest

from benchmarks import bodies, echo, load, workloads
from benchmarks.bodies import framed, owned_keys
from benchmarks.failure import RunVoid
from benchmarks.figures import Figure, Pair, Run, latency_against, rate_against, rate_against_echo, summary
from benchmarks.load import parsed
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.ring.hashing import partition_of

PARTITIONS = 16


def pair(echo_rate: int, product_rate: int, latency_us: int = 0) -> Pair:
    """A second of each, in which every operation took `latency_us` and a millisecond of CPU."""
    latencies = (latency_us,) if latency_us else ()
    return Pair(
        Run(echo_rate, 1.0, echo_rate / 1000, latencies), Run(product_rate, 1.0, product_rate / 1000, latencies)
    )


def topology(owners: list[int]) -> cluster_pb2.TopologyResponse:
    nodes = [cluster_pb2.Node(name=f"node-{number}") for number in range(3)]
    partitions = [cluster_pb2.Partition(leader=owner) for owner in owners]
    return cluster_pb2.TopologyResponse(nodes=nodes, partitions=partitions)


@pytest.mark.parametrize("module", [bodies, echo, load, workloads])
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
    """So are the ratios of two workloads, of rates and of latencies."""
    rounds, others = [pair(9, 800, 30), pair(9, 80, 300)], [pair(9, 100, 10), pair(9, 10, 100)]
    assert rate_against("batch", "Batch", rounds, others, 6.0).value == 8.0
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
