"""A single core of Raft and the messages that others would send it, for tests that give one event at a time."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftKind, RaftMessage
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import HardState, LogEntry
from ringhold.node.consensus.configuration import Configuration, founders
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.log import Entry, Load, Log, made
from ringhold.node.consensus.messages import APPEND, APPENDED, PRE_VOTED, VOTED, Outbound
from ringhold.node.consensus.states import LogBounds, Recovered, Writes
from ringhold.node.consensus.support import Support

THREE = founders(["n1", "n2", "n3"])
FIVE = founders(["n1", "n2", "n3", "n4", "n5"])


def entry(index: int, term: int, *commands: bytes, configuration: Configuration | None = None) -> Entry:
    content = LogEntry(term=term, log_time_ms=index, commands=commands)
    if configuration is not None:
        content.configuration.CopyFrom(configuration.encode())
    return made(index, content)


def log_of(terms: Sequence[int], configurations: dict[int, Configuration] | None = None) -> Log:
    """A log with entries 1, 2, … of these terms, some of which say a configuration."""
    named = configurations or {}
    log = Log([(0, 0)], 0, [], Load(lambda first, last: []))
    for index, term in enumerate(terms, 1):
        log.append(entry(index, term, configuration=named.get(index)))
    return log


@dataclass
class Bench:
    """Replica n1 of group 7 under test. It has its own time; what it sends is taken from `sent`."""

    replica: Replica[str]
    now: float = 1000.0
    sent: list[Outbound] = field(default_factory=list)

    @property
    def support(self) -> Support:
        return self.replica.support

    def flush(self) -> Writes | None:
        """Take what is to be stored, without any of it being durable, and send what may leave before that."""
        writes = self.replica.take_writes(self.now, 100, 10_000)
        self.drain()
        return writes

    def sync(self, writes: Writes) -> None:
        self.replica.persisted(writes.mark, self.now)
        self.sent += writes.messages
        self.drain()

    def settle(self) -> list[str]:
        """Store, sync and apply all that there is; the tickets of applied commands."""
        tickets: list[str] = []
        while self.replica.has_work or self.replica.committed_left:
            if (writes := self.flush()) is not None:
                self.sync(writes)
            for committed in self.replica.take_committed():
                tickets += committed.tickets
                self.replica.applied(committed.entry.index, self.now)
            self.drain()
        return tickets

    def drain(self) -> None:
        self.sent += self.replica.outbox
        self.replica.outbox = []

    def step(self, source: str, kind: RaftKind, *, term: int | None = None, **fields: Any) -> list[RaftMessage]:
        """Take a message in and settle; what was sent back to its source."""
        self.take(source, kind, term=term, **fields)
        self.settle()
        return self.answers(source)

    def take(self, source: str, kind: RaftKind, *, term: int | None = None, **fields: Any) -> None:
        """Take a message in, and store nothing."""
        numbers = {
            "source_replica": self.replica.configuration.numbers.get(source, 0),
            "target_replica": self.replica.number,
        }
        message = RaftMessage(
            kind=kind, group=7, term=self.replica.term if term is None else term, **{**numbers, **fields}
        )
        self.replica.step(source, message, self.now)
        self.drain()

    def answers(self, target: str) -> list[RaftMessage]:
        """What was sent to a node since this was asked last."""
        found = [each.message for each in self.sent if each.target == target]
        self.sent = [each for each in self.sent if each.target != target]
        return found

    def append(self, source: str, *entries: Entry, after: tuple[int, int], term: int, commit: int = 0) -> RaftMessage:
        """The answer to an APPEND of these entries after (index, term)."""
        index, log_term = after
        encoded = [each.encoded for each in entries]
        answer = self.step(source, APPEND, term=term, index=index, log_term=log_term, commit=commit, entries=encoded)
        return answer[-1]

    def lead(self, *, epoch: int = 1) -> None:
        """Win an election of three or five, and commit and apply the first entry of the term."""
        self.elect()
        for node in self.others():
            self.step(node, APPENDED, index=self.replica.log.last_index, epoch=epoch)
        self.sent.clear()

    def elect(self) -> None:
        """Win an election; nobody has acknowledged anything yet."""
        self.replica.campaign(self.now)
        self.settle()
        for node in self.others():
            self.step(node, PRE_VOTED, term=self.replica.term + 1)
        for node in self.others():
            self.step(node, VOTED)
        assert self.replica.leads
        self.sent.clear()

    def others(self) -> list[str]:
        voting = self.replica.configuration.voting_nodes
        return [node for node in voting if node != "n1"][: len(voting) // 2]

    def hear(self, peer: str, *, epoch: int = 1, generation: int = 1, heard: int | None = None) -> None:
        """A beat of a peer, which has heard the newest of this node's unless another is named."""
        number = self.support.beat(peer, self.now).number if heard is None else heard
        beat = Beat(
            generation=generation,
            number=self.support.heard_beat(peer) + 1,
            heard=number,
            heard_generation=1,
            epoch=epoch,
        )
        if self.support.hear(peer, beat, self.now):
            self.replica.peer_reborn(peer, self.now)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a pulse at the end of it."""
        self.now += seconds
        self.replica.pulse(self.now)
        self.drain()


def bench(
    terms: Sequence[int] = (),
    *,
    configuration: Configuration = THREE,
    term: int | None = None,
    voted_for: str = "",
    applied: int = 0,
    later: dict[int, Configuration] | None = None,
    number: int = 0,
    may_vote_from: float = 0.0,
    leases: bool = True,
    is_healthy: bool = True,
    bounds: LogBounds | None = None,
) -> Bench:
    """Replica n1 with entries 1, 2, … of these terms on its disk; `later`: configurations in them, not applied."""
    log = log_of(terms, later)
    recovered = Recovered(
        number=number,
        hard_state=HardState(term=log.last_term if term is None else term, voted_for=voted_for),
        applied_index=applied,
        log_time_ms=log.last_index,
        log=log,
        configurations=[(0, configuration), *sorted((later or {}).items())],
        is_healthy=is_healthy,
    )
    replica: Replica[str] = Replica(
        7,
        "n1",
        recovered,
        Support(1),
        random.Random(1),
        may_vote_from=may_vote_from,
        leases=leases,
        bounds=bounds,
    )
    return Bench(replica)
