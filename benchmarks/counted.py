"""The program whose instructions are counted: it carries out operations, and marks where they begin and end.

Run by benchmarks/instructions.py under valgrind. Each operation runs so many times and then twice as often, within the
same virtual time: the difference is free of what a run costs by itself, and of what the nodes do when nobody calls.
Garbage is collected before them: nodes do it once in thousands of operations, and one run or the other would pay.
"""

import asyncio
import gc
import json
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TypeAlias

from google.protobuf.message import Message

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node.machine.records import RecordMachine
from ringhold.node.machine.staged import Staged
from ringhold.node.storage.engine import WriteBatch
from ringhold.node.storage.memory import MemoryEngine

from .bodies import VALUE, batch_request, get_request, indexed_batch, key_of, page_request, set_request
from .callgrind import mark
from .failure import BenchmarkFailed
from .one_process import NODES, OneProcess, one_process
from .virtual_loop import run_virtually
from .workloads import refuse_failures

KEYS_PER_NODE = 7
BATCH_KEYS = 100
BATCHES_IN_FLIGHT = 12
PAGE_LIMIT = 100
PAGE_RECORDS = 2_000
PAGE_RECORDS_FROM = 1_000_000
"""The number of the first key that has an index entry: other keys are set without, and stay so."""

WINDOW_S = 0.6
"""Virtual time of a run: whole periods of the nodes' pulses (50 ms) and beats (150 ms)."""

SETTLE_S = 0.15
"""What followers leave for later is done within so much of it."""

RUNS = 4
"""As many as `count` of an operation in all: to warm up, once, and twice."""

GROUP = 1
REQUEST_ID_BYTES = 16

Repeated: TypeAlias = Callable[[int], Awaitable[None]]
"""Carries the operation out so many times."""

Prepare: TypeAlias = Callable[[OneProcess, int], Awaitable[Repeated]]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is counted: `count` runs of it, and twice as many; `prepared` is told their number.

    `per_run`: what people count, keys of a batch, in one run. `on_each_engine`: False if it says nothing of the engine.
    `in_window`: False if it takes no virtual time, or is nothing else.
    """

    title: str
    count: int
    prepared: Prepare
    per_run: int = 1
    on_each_engine: bool = True
    in_window: bool = True


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the nodes have sent and written; fractions are of one operation."""

    frames: float
    writes: float


@dataclass(frozen=True, slots=True)
class Call:
    """One request, encoded, and the method of the node that it goes to."""

    method: Callable[[bytes], Awaitable[bytes]]
    request: bytes


def in_flight(calls: Sequence[Call], flight: int) -> Repeated:
    """So many callers at once, each of whom takes every `flight`-th of the calls, over and over."""

    async def caller(number: int, count: int) -> None:
        own = islice(cycle(calls), number, None, flight)
        for call in islice(own, len(range(number, count, flight))):
            await call.method(call.request)

    async def run(count: int) -> None:
        await asyncio.gather(*(caller(number, count) for number in range(flight)))

    return run


def calls_by_key(
    cluster: OneProcess, method: str, request_of: Callable[[bytes], Message], *, through: int = 0
) -> list[Call]:
    """To each node in turn, for a key that it leads; or that the node `through` places before it leads."""
    keys = [cluster.keys_led_by(node_id, KEYS_PER_NODE) for node_id in NODES]
    faces = [cluster.faces[NODES[(number + through) % len(NODES)]].method(method) for number in range(len(NODES))]
    return [
        Call(face, request_of(key).SerializeToString())
        for of_nodes in zip(*keys, strict=True)
        for face, key in zip(faces, of_nodes, strict=True)
    ]


def gets(*, through: int = 0) -> Prepare:
    async def prepared(cluster: OneProcess, count: int) -> Repeated:
        await in_flight(calls_by_key(cluster, "Set", set_request), 1)(KEYS_PER_NODE * len(NODES))
        return in_flight(calls_by_key(cluster, "Get", get_request, through=through), 1)

    return prepared


def sets(flight: int, *, through: int = 0) -> Prepare:
    async def prepared(cluster: OneProcess, count: int) -> Repeated:
        return in_flight(calls_by_key(cluster, "Set", set_request, through=through), flight)

    return prepared


async def batches(cluster: OneProcess, count: int) -> Repeated:
    """Of keys in all partitions, to all nodes in turn."""
    calls = []
    for number in range(BATCHES_IN_FLIGHT):
        keys = [key_of(number * BATCH_KEYS + place) for place in range(BATCH_KEYS)]
        face = cluster.faces[NODES[number % len(NODES)]]
        calls.append(Call(face.method("Batch"), batch_request(keys).SerializeToString()))
    for call in calls:
        refuse_failures(kv_pb2.BatchResponse.FromString(await call.method(call.request)))
    return in_flight(calls, BATCHES_IN_FLIGHT)


async def pages(cluster: OneProcess, count: int) -> Repeated:
    """The first page, of all nodes in turn."""
    for first in range(PAGE_RECORDS_FROM, PAGE_RECORDS_FROM + PAGE_RECORDS, BATCH_KEYS):
        keys = [key_of(number) for number in range(first, first + BATCH_KEYS)]
        answer = await cluster.call(NODES[0], "Batch", indexed_batch(keys))
        refuse_failures(kv_pb2.BatchResponse.FromString(answer))
    request = page_request(PAGE_LIMIT).SerializeToString()
    return in_flight([Call(cluster.faces[node_id].method("GetByIndex"), request) for node_id in NODES], 1)


async def applications(cluster: OneProcess, count: int) -> Repeated:
    """Entries of one Set each, by the state machine of one group on an engine in memory."""
    engine, machine, rng = MemoryEngine(), RecordMachine(GROUP, stored.GroupState()), random.Random(GROUP)
    entries = enumerate([entry_of_one_set(key_of(number), rng) for number in range(RUNS * count)], start=1)

    async def run(count: int) -> None:
        for index, entry in islice(entries, count):
            batch = WriteBatch()
            staged = Staged(engine, batch)
            staged.prefetch(machine.reads(index, entry))
            machine.apply(index, entry, staged)
            engine.write(batch)
            machine.written()

    return run


def entry_of_one_set(key: bytes, rng: random.Random) -> stored.LogEntry:
    command = stored.Command(request_id=rng.randbytes(REQUEST_ID_BYTES), anchor_ms=1)
    command.mutations.add().set.CopyFrom(stored.Set(key=key, value=VALUE))
    return stored.LogEntry(term=1, log_time_ms=1, commands=[command.SerializeToString()])


async def idling(cluster: OneProcess, count: int) -> Repeated:
    """Seconds in which nobody calls."""
    return asyncio.sleep


OPERATIONS: Mapping[str, Operation] = {
    "get": Operation("Get at the leader", 1_500, gets(), in_window=False),
    "get_other": Operation("Get through another gateway", 350, gets(through=1)),
    "set_1": Operation("Set at the leader, 1 in flight", 63, sets(1)),
    "set_32": Operation("Set at the leader, 32 in flight", 192, sets(32)),
    "set_other_32": Operation("Set through another gateway, 32 in flight", 192, sets(32, through=1)),
    "batch": Operation(
        f"key of a batch of {BATCH_KEYS}, {BATCHES_IN_FLIGHT} in flight", 12, batches, per_run=BATCH_KEYS
    ),
    "page": Operation(f"page of {PAGE_LIMIT} of {PAGE_RECORDS:,} matches", 15, pages),
    "apply": Operation("Set applied by the state machine", 300, applications, on_each_engine=False, in_window=False),
    "idle": Operation("a second in which nobody calls", 2, idling, on_each_engine=False, in_window=False),
}


async def carry_out(cluster: OneProcess, name: str, count: int) -> Traffic:
    """Warm up, run the operation `count` times and then twice as often, with a mark before, between and after."""
    operation = OPERATIONS[name]
    run = await operation.prepared(cluster, count)
    await run(count)
    await asyncio.sleep(SETTLE_S)
    gc.collect()
    frames, writes = [cluster.wires.frames], [cluster.batches_written]
    mark()
    for repeats in (1, 2):
        await (in_window(run, repeats * count) if operation.in_window else run(repeats * count))
        mark()
        frames.append(cluster.wires.frames)
        writes.append(cluster.batches_written)
    cluster.refuse_failures()
    per = count * operation.per_run
    return Traffic(excess(frames) / per, excess(writes) / per)


async def in_window(run: Repeated, count: int) -> None:
    """Return WINDOW_S from now. Raises BenchmarkFailed if that was too short."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WINDOW_S
    await run(count)
    if loop.time() > end - SETTLE_S:
        raise BenchmarkFailed(f"{count} runs take more than {WINDOW_S - SETTLE_S} s of virtual time")
    await asyncio.sleep(end - loop.time())


def excess(readings: Sequence[int]) -> int:
    """How much more the second of two runs took than the first, by readings before, between and after.

    >>> excess([5, 12, 24])
    5
    """
    before, between, after = readings
    return (after - between) - (between - before)


async def carry_out_all(engine: str, folder: Path, counts: Mapping[str, int]) -> None:
    """A line of JSON on standard output for each operation, in their order."""
    async with one_process(engine, folder) as cluster:
        gc.disable()
        for name, count in counts.items():
            traffic = await carry_out(cluster, name, count)
            print(json.dumps({"name": name, **asdict(traffic)}), flush=True)


def main(arguments: Sequence[str]) -> None:
    """ENGINE FOLDER COUNTS, these as JSON: how often to carry out which operation."""
    engine, folder, counts = arguments
    run_virtually(carry_out_all(engine, Path(folder), json.loads(counts)))


if __name__ == "__main__":
    main(sys.argv[1:])
