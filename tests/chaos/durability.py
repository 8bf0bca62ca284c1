"""Kills nodes of a real cluster under load, round after round: `python -m chaos.durability --rounds 200`, from the
folder tests/.

In each round clients read and write, a random subset of the three nodes gets kill -9 (often all of them, now and then a
node once more while it starts), they are restarted, and everything is asked for through every gateway: no acknowledged
write may be lost, no old value may come back, every index entry must have its row. Some records are written once, just
before a kill, and asked for in that round and at the end. Prints a report; 1, with the evidence, if anything is wrong.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from signal import SIGKILL

from simulation.history import Fate, History, Read
from support.gateways import Gateway, gateway
from support.judgement import complaints, disagreement, log_tails, lost_writes
from support.load import INDEX, KEYS, WALK_MATCHES_MAX, loaded
from support.nodes import NodeProcess, node_processes, running, wait_until

from ringhold import Client, RingholdError, Set

NODES = 3
OPERATIONS_BEFORE_MAX = 40
ALL_CHANCE = 0.3
AGAIN_CHANCE = 0.2
ONCE_PER_ROUND = 20
ONCE_INDEX = "once"
PROGRESS_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Tally:
    """What happened, for the report."""

    rounds: int = 0
    kills: int = 0
    kills_of_all: int = 0
    acknowledged: int = 0
    refused: int = 0
    in_doubt: int = 0
    checked: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield f"{self.rounds} rounds in {self.seconds:.0f} s; {self.kills} kills, {self.kills_of_all} times all at once"
        yield f"{self.acknowledged} writes acknowledged, {self.refused} refused, {self.in_doubt} in doubt"
        yield f"{self.checked} reads to check them; lost or wrong: {len(self.wrong)}"
        yield from self.wrong


class Rounds:
    """One cluster, round after round. What the last round found is what the next begins with."""

    def __init__(self, nodes: Sequence[NodeProcess], rng: Random) -> None:
        self.tally = Tally()
        self._nodes = nodes
        self._endpoints = [node.grpc for node in nodes]
        self._rng = rng
        self._values = count()
        self._finals: list[Read] = []
        self._once: dict[bytes, bytes] = {}
        self._doubtful: set[bytes] = set()

    def run(self, rounds: int) -> None:
        """So many rounds, or as many as go well."""
        began = time.monotonic()
        while self.tally.rounds < rounds and not self.tally.wrong:
            self._round()
            self.tally.seconds = time.monotonic() - began
        self._check_once(self._once)

    def _round(self) -> None:
        self.tally.rounds += 1
        history = self._history_so_far()
        with loaded(self._endpoints, history, seed=self._rng.randrange(2**32)) as load:
            load.wait_for(self._rng.randint(5, OPERATIONS_BEFORE_MAX), PROGRESS_TIMEOUT_S)
            fresh = self._write_once()
            self._kill_and_restart()
            load.wait_for(1, PROGRESS_TIMEOUT_S)
        history.settle(time.monotonic())
        self._count(history)
        self._judge(history)
        self._check_once(fresh)

    def _history_so_far(self) -> History:
        """Every round's history begins with what is there, as if it had just been written."""
        history = History(_values=self._values)
        for final in self._finals:
            if final.value is not None:
                mutation = history.begin(final.key, final.value, final.entries, final.invoked)
                mutation.done(final.version, final.returned)
        return history

    def _write_once(self) -> dict[bytes, bytes]:
        """Records that no later round touches; those that were acknowledged."""
        number = self.tally.rounds
        rows = {b"once-%05d-%d" % (number, each): self._rng.randbytes(200) for each in range(ONCE_PER_ROUND)}
        with Client(self._endpoints) as client:
            outcomes = client.batch([Set(key, value, {ONCE_INDEX: b"%d" % number}) for key, value in rows.items()])
        done = {key: rows[key] for key, outcome in zip(rows, outcomes, strict=True) if isinstance(outcome, int)}
        self._doubtful |= rows.keys() - done.keys()
        self._once |= done
        self.tally.acknowledged += len(done)
        self.tally.in_doubt += len(rows) - len(done)
        return done

    def _kill_and_restart(self) -> None:
        everybody = self._rng.random() < ALL_CHANCE
        victims = self._rng.sample(list(self._nodes), NODES if everybody else self._rng.randint(1, NODES - 1))
        for node in victims:
            node.signal(SIGKILL)
        for node in victims:
            node.kill()
            node.start()
        self.tally.kills += len(victims)
        self.tally.kills_of_all += everybody
        if self._rng.random() < AGAIN_CHANCE:
            self._kill_while_it_starts(self._rng.choice(victims))
        for node in self._nodes:
            node.wait_until_ready()

    def _kill_while_it_starts(self, node: NodeProcess) -> None:
        said = len(node.output)
        wait_until(lambda: len(node.output) > said, f"{node.name} says that it starts")
        node.kill()
        node.start()
        self.tally.kills += 1

    def _count(self, history: History) -> None:
        fates = [
            mutation.fate for mutation in history.mutations[sum(read.value is not None for read in self._finals) :]
        ]
        self.tally.acknowledged += fates.count(Fate.DONE)
        self.tally.refused += fates.count(Fate.NEVER)
        self.tally.in_doubt += fates.count(Fate.DOUBT)

    def _judge(self, history: History) -> None:
        """All is read, and the index walked, through every gateway."""
        with ExitStack() as stack:
            for node in self._nodes:
                self._ask(stack.enter_context(gateway(node.grpc)), history)
        self.tally.wrong += complaints(history)

    def _ask(self, asked: Gateway, history: History) -> None:
        self._finals = [asked.read(key) for key in KEYS]
        walk = asked.walk(INDEX, WALK_MATCHES_MAX)
        history.reads += self._finals
        history.pages.append(walk)
        self.tally.checked += len(self._finals) + len(walk.found)
        self.tally.wrong += lost_writes(history, self._finals)
        if (difference := disagreement(self._finals, walk)) is not None:
            self.tally.wrong.append(difference)

    def _check_once(self, rows: dict[bytes, bytes]) -> None:
        """By key, through a gateway for each; and by index, which must have just these keys of their rounds."""
        with ExitStack() as stack:
            gateways = [stack.enter_context(gateway(endpoint)) for endpoint in self._endpoints]
            for number, (key, value) in enumerate(rows.items()):
                read = gateways[number % NODES].read(key)
                if read.value != value:
                    self.tally.wrong.append(f"{key!r} is {read.value!r}, and was acknowledged as {value!r}")
        found = self._found_by_index({key.split(b"-")[1] for key in rows}) - self._doubtful
        if found != rows.keys():
            self.tally.wrong.append(f"the index lacks {sorted(rows.keys() - found)}, has {sorted(found - rows.keys())}")
        self.tally.checked += len(rows) + len(found)

    def _found_by_index(self, numbers: set[bytes]) -> set[bytes]:
        with Client(self._endpoints) as client:
            return {
                match.key
                for number in sorted(numbers)
                for match in client.find(ONCE_INDEX, b"%d" % int(number), with_records=False)
            }


def durability(folder: Path, engine: str, rounds: int, seed: int) -> Tally:
    """A cluster of three, all groups on all nodes, that lives through so many rounds."""
    nodes = node_processes(folder, NODES, ["--engine", engine])
    with running(nodes):
        found = Rounds(nodes, Random(seed))
        try:
            found.run(rounds)
        except (AssertionError, RingholdError) as error:
            found.tally.wrong.append(f"round {found.tally.rounds} came to no end: {error!r}")
        if found.tally.wrong:
            found.tally.wrong.append(log_tails(nodes))
    return found.tally


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos.durability", description=__doc__)
    parser.add_argument("--engine", choices=["rocksdb", "sqlite"], default="sqlite", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = durability(Path(folder), arguments.engine, arguments.rounds, arguments.seed)
    print(f"engine {arguments.engine}, seed {arguments.seed}:", *tally.lines(), sep="\n")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
