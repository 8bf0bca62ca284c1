"""The arithmetic of the benchmarks: a wrong ratio would be believed."""

import doctest
import json
from collections import Counter
from collections.abc import Iterator
from itertools import chain, count, repeat
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import bodies, clients, echo, etcd, figures, load, redis_cluster, redis_load, workloads
from benchmarks.__main__ import parsed as arguments_of
from benchmarks.__main__ import plan_of
from benchmarks.bodies import framed, owned_keys, owner_of
from benchmarks.contestants import ETCD, name_of
from benchmarks.etcd import transaction, varint
from benchmarks.failover import Outage, Writer, figures_of, first_acknowledged, waits_of
from benchmarks.failure import RunVoid
from benchmarks.figures import Figure, Percentiles, Row, Run, cpu, p50, percentiles, rate, ratio_within_rounds
from benchmarks.load import Sent, Stream, Timing, as_due, parsed
from benchmarks.report import Report, row_table
from benchmarks.rounds import VOID_RUNS_MAX, Contest, Pace, measure
from benchmarks.servers import Cluster
from benchmarks.trials import ATTEMPTS_MAX, ECHO, Counted
from benchmarks.unary import figures_of as unary_figures_of
from benchmarks.workloads import Workload
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.ring.hashing import partition_of

PARTITIONS = 16
OURS = name_of("sqlite")


def second_of(operations: int, latency_ms: float = 1.0) -> Run:
    """A second in which every operation took so long, and a millisecond of CPU."""
    return Run(operations, 1.0, operations / 1000, Percentiles(latency_ms, latency_ms, latency_ms))


def row(**rates: list[int]) -> Row:
    """The rates of each contestant by round."""
    return Row("get_32", "Get", {name: [second_of(each) for each in rounds] for name, rounds in rates.items()})


def topology(owners: list[int]) -> cluster_pb2.TopologyResponse:
    nodes = [cluster_pb2.Node(name=f"node-{number}") for number in range(3)]
    partitions = [cluster_pb2.Partition(leader=owner) for owner in owners]
    return cluster_pb2.TopologyResponse(nodes=nodes, partitions=partitions)


@pytest.mark.parametrize("module", [bodies, clients, echo, etcd, figures, load, redis_cluster, redis_load, workloads])
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
    assert row(echo=[1000, 100, 1000], ours=[500, 50, 500]).ratio("ours", "echo", rate) == 0.5


def test_workloads_are_compared_round_by_round() -> None:
    """So is the ratio of two workloads' latencies."""
    pages, gets = [second_of(1, 30), second_of(1, 300)], [second_of(1, 10), second_of(1, 100)]
    assert ratio_within_rounds(pages, gets, p50) == 3.0


def test_cpu_is_counted_per_thousand_operations() -> None:
    """CPU seconds are those of all servers per 1,000 operations; a ratio to a cost too small to be seen is infinite."""
    assert second_of(2000).cpu_s_per_1000 == 1.0
    free = Run(10, 1.0, 0.0, Percentiles(1, 1, 1))
    assert ratio_within_rounds([second_of(10)], [free], cpu) == float("inf")


def test_a_percentile_is_a_latency_that_was_measured() -> None:
    """By the nearest rank, however few there are."""
    assert percentiles([3000.0]) == Percentiles(3.0, 3.0, 3.0)
    assert percentiles([1000.0, 2000.0]) == Percentiles(1.0, 2.0, 2.0)


def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    """What was sent late has waited since it was due; what was sent in time took what it took."""
    early = [Timing(0, 10), Timing(500, 10), Timing(2000, 10)]
    assert [timing.took_us for timing in as_due(early, per_s=1000.0)] == [10, 10, 10]
    assert as_due([Timing(0, 10), Timing(1500, 10)], per_s=1000.0)[1] == Timing(1000, 510)


@pytest.mark.parametrize(("value", "is_at_least", "reached"), [(2, True, False), (3, True, True), (2, False, True)])
def test_a_target_is_a_floor_or_a_ceiling(value: float, *, is_at_least: bool, reached: bool) -> None:
    """A figure on its target has reached it, from above or from below."""
    assert Figure("name", "title", value, "unit", 2.5, is_at_least=is_at_least).reached is reached


def test_a_silent_generator_voids_the_run() -> None:
    """A report of a generator that says nothing is not a run without errors."""
    with pytest.raises(RunVoid, match="reports nothing"):
        parsed("could not connect\n")
    with pytest.raises(RunVoid, match="reports nothing"):
        redis_load.parsed("Could not connect\n")


def test_who_did_not_run_is_not_compared() -> None:
    """Without etcd there is no figure against it."""
    alone = Row("get_32", "Get", {ECHO: [second_of(1000)], OURS: [second_of(500)]})
    beside = Row("get_32", "Get", {**alone.runs, ETCD: [second_of(1000)]})
    assert [figure.unit for figure in unary_figures_of([alone], "sqlite")] == ["of echo"]
    assert [figure.unit for figure in unary_figures_of([beside], "sqlite")] == ["of echo", "of etcd"]


def test_an_etcd_transaction_is_encoded_as_protobuf_does() -> None:
    """Field numbers and lengths of TxnRequest, RequestOp and PutRequest, byte by byte; long lengths take two bytes."""
    put = b"\x0a\x01k\x12\x64" + bodies.VALUE
    assert len(put) == 105
    assert transaction([b"k"]) == b"\x12\x6b\x12\x69" + put
    assert varint(127) + varint(128) == b"\x7f\x80\x01"


def test_failover_is_judged_by_its_slowest_partition() -> None:
    """A kill took as long as its slowest partition; the figures are the median and the worst of the kills."""
    found = [Outage([0.5, slowest], 1.0, ["InDoubt"] if slowest == 3.0 else [], 2.0) for slowest in (1.0, 1.5, 3.0)]
    assert [figure.value for figure in figures_of(found, "sqlite")] == [1.5, 3.0, 1]
    assert [(waits.median_s, waits.worst_s) for waits in waits_of(found, "sqlite")[:2]] == [(1.5, 3.0), (0.75, 3.0)]


def test_a_partition_is_back_with_its_first_write_through_any_gateway() -> None:
    """Of the writers of one key the first counts; a key without a write is not back."""

    async def write(_: bytes) -> None:
        """Never called."""

    times = [(b"a", 2.0), (b"a", 1.0), (b"b", None), (b"c", 3.0)]
    writers = [Writer(key, write, 0.0, first_at=at) for key, at in times]
    assert first_acknowledged(writers) == {b"a": 1.0, b"c": 3.0}


class CountingNothing(Cluster):
    """Servers that have never run: they count what `counts` says, one after the other."""

    def __init__(self, folder: Path, counts: Iterator[int]) -> None:
        super().__init__(folder, "sqlite")
        self._counts = counts

    def finished_calls(self) -> Counter[tuple[str, str]]:
        return Counter({("KV/Set", "OK"): next(self._counts)})


def workload_at(owners: Iterator[int]) -> Workload:
    """Its streams go to whom `owners` names each time that it is asked."""
    return Workload("Set", "KV/Set", lambda _: [Stream(f"node-{next(owners)}", "", b"", 1)], answer_bytes=0)


def hundred_sent(*_: object) -> Sent:
    return Sent(100, 1.0, 500, [1.0])


def test_a_run_during_which_an_owner_moved_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts only if its streams went to the owners from beginning to end; moves without end void it."""
    monkeypatch.setattr("benchmarks.trials.drive", hundred_sent)
    counts = (100 * (number // 2 + number % 2) for number in count())
    settles = workload_at(chain([1, 1], [1, 2], repeat(2)))
    assert Counted(OURS, settles, CountingNothing(tmp_path / "a", counts)).run(0, 1.0).operations == 100
    with pytest.raises(RunVoid, match=f"owners moved during {ATTEMPTS_MAX} runs"):
        Counted(OURS, workload_at(count()), CountingNothing(tmp_path / "b", counts)).run(0, 1.0)


def test_an_answer_that_the_servers_did_not_count_voids_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer counts or none."""
    monkeypatch.setattr("benchmarks.trials.drive", hundred_sent)
    with pytest.raises(RunVoid, match="of 100 requests the servers count"):
        Counted(OURS, workload_at(repeat(1)), CountingNothing(tmp_path, iter([0, 99]))).run(0, 1.0)


class Recorded:
    """A trial that notes when it ran, and is void so many times at first."""

    def __init__(self, contestant: str, course: list[str], void_runs: int = 0) -> None:
        self.contestant = contestant
        self._course = course
        self._void_runs = void_runs

    def run(self, number: int, seconds: float) -> Run:
        if self._void_runs:
            self._void_runs -= 1
            raise RunVoid("not all answers were good")
        self._course.append(f"{self.contestant}{number}")
        return second_of(round(1000 * seconds))


def test_contestants_take_turns_within_a_round() -> None:
    """All warm up; then each runs once a round, in an order that is reversed every second round."""
    course: list[str] = []
    trials = [Recorded(name, course) for name in "ab"]
    (found,) = measure([Contest("get", "Get", trials)], Pace(2, 1.0), lambda _: None)
    assert course == ["a0", "b0", "a0", "b0", "b1", "a1"]
    assert {name: len(runs) for name, runs in found.runs.items()} == {"a": 2, "b": 2}


def test_a_void_run_is_repeated_but_not_for_ever() -> None:
    """A run that is void again and again ends the measurement."""
    told: list[str] = []
    measure([Contest("get", "Get", [Recorded("a", [], VOID_RUNS_MAX - 1)])], Pace(1, 1.0), told.append)
    assert sum("once more" in each for each in told) == VOID_RUNS_MAX - 1
    with pytest.raises(RunVoid):
        measure([Contest("get", "Get", [Recorded("a", [], VOID_RUNS_MAX)])], Pace(1, 1.0), told.append)


def test_a_report_keeps_every_run(tmp_path: Path) -> None:
    """The JSON has the medians and what they are of; the table has a column for each yardstick that ran."""
    found = row(echo=[1000, 1000], ours=[500, 600])
    Report("unary", "command", {}, rows=[found]).write(tmp_path / "report.json")
    (written,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert written["contestants"]["ours"]["medians"]["operations_per_s"] == 550
    assert [run["operations"] for run in written["contestants"]["ours"]["rounds"]] == [500, 600]
    columns = [column.header for column in row_table([found]).columns]
    assert "÷ echo" in columns
    assert "÷ etcd" not in columns


def test_options_make_a_plan() -> None:
    """Engines are repeated; a quick plan keeps what was asked for."""
    plan = plan_of(arguments_of(["unary", "--quick", "--engine", "rocksdb", "--row", "get_32", "--rounds", "3"]))
    assert (plan.engines, plan.pace.rounds, plan.asks_for("get_32"), plan.asks_for("get_1")) == (
        ("rocksdb",),
        3,
        True,
        False,
    )
    with pytest.raises(SystemExit):
        arguments_of(["unknown"])
