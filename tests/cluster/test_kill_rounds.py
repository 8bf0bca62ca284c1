"""Round after round of load, kill -9 and restart: every acknowledged write stays, on both engines."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from support.nodes import NodeProcess, node_processes, running, wait_until

from ringhold import Client, KeyNotFound, RingholdError

States: TypeAlias = dict[bytes, set[bytes | None]]
"""What each key may hold."""

ROUNDS = 15
WRITERS = 3
KEYS_PER_WRITER = 100
WRITES_PER_ROUND = 50


class Writer(threading.Thread):
    """Sets and deletes keys of its own until it is stopped; knows what must be there, and what may be."""

    def __init__(self, number: int, endpoints: Sequence[str], seed: int, expected: States) -> None:
        super().__init__(name=f"writer-{number}")
        self.expected = expected
        self.acknowledged = 0
        self._number = number
        self._endpoints = endpoints
        self._rng = random.Random(seed)
        self._stopped = threading.Event()

    def run(self) -> None:
        with Client(self._endpoints, timeout_s=1.0) as client:
            count = 0
            while not self._stopped.is_set():
                count += 1
                key = b"%d:%d" % (self._number, self._rng.randrange(KEYS_PER_WRITER))
                self._change(client, key, None if self._rng.random() < 0.2 else b"%d" % count)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _change(self, client: Client, key: bytes, value: bytes | None) -> None:
        """A change that failed may or may not have been applied: then both states are right."""
        before = self.expected.get(key, {None})
        self.expected[key] = before | {value}
        try:
            if value is None:
                client.delete(key)
            else:
                client.set(key, value, indexes={"writer": b"%d" % self._number})
        except RingholdError:
            return
        self.expected[key] = {value}
        self.acknowledged += 1


@contextmanager
def writing(nodes: Sequence[NodeProcess], seed: int, known: Sequence[States]) -> Iterator[list[Writer]]:
    endpoints = [node.grpc for node in nodes]
    writers = [Writer(number, endpoints, seed + number, states) for number, states in enumerate(known)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()


def have_written(writers: Sequence[Writer]) -> bool:
    return all(writer.acknowledged >= WRITES_PER_ROUND for writer in writers)


def value_of(client: Client, key: bytes) -> bytes | None:
    try:
        return client.get(key).value
    except KeyNotFound:
        return None


def check(nodes: Sequence[NodeProcess], writers: Sequence[Writer]) -> None:
    """Every key has a state that it may have, and the index names just the keys that are there."""
    with Client([node.grpc for node in nodes]) as client:
        for number, writer in enumerate(writers):
            there = {key: value_of(client, key) for key in writer.expected}
            assert {key: value for key, value in there.items() if value not in writer.expected[key]} == {}
            found = {match.key for match in client.find("writer", b"%d" % number, with_records=False)}
            assert found == {key for key, value in there.items() if value is not None}
            writer.expected = {key: {value} for key, value in there.items()}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["sqlite", "rocksdb"])
def test_kill_9_round_after_round(tmp_path: Path, engine: str) -> None:
    """Load, kill -9 of a random subset or of all, restart: no acknowledged write is lost, no index entry is wrong."""
    rng = random.Random(engine)
    known: list[States] = [{} for _ in range(WRITERS)]
    with running(node_processes(tmp_path, 3, ["--engine", engine])) as nodes:
        for round_number in range(ROUNDS):
            with writing(nodes, 1_000 * round_number, known) as writers:
                wait_until(partial(have_written, writers), "load")
                for node in rng.sample(list(nodes), rng.randint(1, 3)):
                    node.kill()
            for node in nodes:
                if not node.is_running:
                    node.start()
            for node in nodes:
                node.wait_until_ready()
            check(nodes, writers)
            known = [writer.expected for writer in writers]
