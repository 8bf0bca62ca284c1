"""Watches the replicas from outside while they run, and says at once when one does what none may ever do.

Faults that nobody reads about in time are found here: a second leader, another entry under a committed index, a second
effect of a request, a lease beside a later leader's commit.
"""

import asyncio
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from xxhash import xxh3_64_intdigest

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftFrame
from ringhold.api.proto.ringhold.storage.v1.records_pb2 import Command, GroupState
from ringhold.node.consensus.configuration import Configuration, ReplicaId
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.hosting import Hosting
from ringhold.node.consensus.leadership import Leadership
from ringhold.node.consensus.messages import GONE, VOTED
from ringhold.node.consensus.progress import ENTRIES_PER_MESSAGE_MAX
from ringhold.node.consensus.states import Freshness
from ringhold.node.consensus.support import DRIFT_MAX
from ringhold.node.consensus.ticks import Ticks
from ringhold.node.machine.records import RecordMachine

from .agreement import Committed, Effects, Leaders, Logs, Members, Promises, Votes
from .loop import LIFE, Life
from .patches import patched
from .sessions import SimulatedTransport

REMOVAL = re.compile(r"the configuration of entry (\d+) does without it")
MISSING_MAX = 2 * ENTRIES_PER_MESSAGE_MAX


@dataclass(frozen=True, slots=True)
class Process:
    """The replicas of one life of a node. `name` is that of the life, and differs from that of any other."""

    name: str
    life: Life
    groups: Groups


class Witness:
    """Feeds the checkers of `agreement.py`, and compares leases with commits, in virtual time."""

    def __init__(self) -> None:
        self.accuse: Callable[[str], None] = lambda what: None
        self._leaders = Leaders()
        self._logs = Logs()
        self._effects = Effects()
        self._votes = Votes()
        self._promises = Promises()
        self._members = Members()
        self._processes: list[Process] = []
        self._committing: dict[int, tuple[int, str]] = {}
        """By group, the latest term whose leader has committed anything, and that leader."""
        self._shown: dict[int, int] = {}
        """By group, how far a leader has applied the log: it has acknowledged that much, and has let it be read."""
        self._history: dict[int, list[tuple[float, int]]] = {}
        """By group, when that was, and how far."""
        self._due: dict[Any, int] = {}
        """What was shown when a read came that waits for its leader to be confirmed."""

    def process_began(self, groups: Groups) -> None:
        """A node has made its replicas, in a life of its own."""
        life = LIFE.get()
        assert life is not None, "a node runs outside of any life"
        self._processes = [process for process in self._processes if not process.life.is_over]
        self._processes.append(Process(f"{life.name} in life {groups._support._generation}", life, groups))

    def sent(self, sender: SimulatedTransport, peer_id: str, frame: RaftFrame) -> None:
        """A frame of consensus leaves a node that its peer believes to be what it says."""
        node = sender.node_id
        for message in frame.messages:
            if message.kind == GONE:
                self._votes.gone(node, message.group, message.source_replica)
                continue
            self._tell(self._votes.spoke(node, message.group, message.source_replica))
            if message.kind == VOTED and not message.rejected:
                number, term = message.source_replica, message.term
                self._tell(self._votes.voted(node, message.group, number, term, peer_id))

    def engine_lost(self, machine: str, node_id: str) -> None:
        """What the replicas of a node have promised is not known there any more."""
        self._votes.forgotten(node_id)
        self._promises.forgotten(machine)

    def persisted(self, replica: Replica[Any], mark: tuple[int, int, int]) -> None:
        """All that a replica had handed to storage with this mark is durable."""
        term, index, entry_term = mark
        self._promises.made(life_name(), replica.group, replica.number, term, (entry_term, index))

    def opened(self, replica: Replica[Any]) -> None:
        """A replica takes up what its node has found on the disk."""
        position = (replica.log.last_term, replica.log.last_index)
        self._tell(self._promises.found(life_name(), replica.group, replica.number, replica.term, position))

    def promoted(self, group: int, learner: ReplicaId) -> None:
        """A leader lets a learner vote: that has good rows, and the log but for what a message or two hold."""
        for process in self._processes:
            replica = process.groups._replicas.get(group)
            if replica is None or process.life.is_over or (replica.node_id, replica.number) != learner[:2]:
                continue
            missing = self._shown.get(group, 0) - replica.log.last_index
            if not replica.is_healthy or missing > MISSING_MAX:
                self._tell(f"{process.name} is to vote in group {group}, and lacks {missing} entries or its rows")

    def installed(self, group: int, state: GroupState) -> None:
        """A snapshot has become a replica's rows."""
        self._tell(self._logs.stands(self._here().name, group, state.applied_index, figures_of(state)))
        number = self._here().groups._replicas[group].number
        self._promises.made(life_name(), group, number, 0, (0, 0))  # its log may have contradicted the snapshot

    def elected(self, replica: Replica[Any]) -> None:
        self._tell(self._leaders.elected(self._here().name, replica.group, replica.term))

    def configured(self, replica: Replica[Any], before: Configuration, before_index: int) -> None:
        """A leader has appended a configuration, in place of the one before."""
        self._tell(self._members.appended(replica.group, before, before_index, *newest_of(replica)))

    def buried(self, group: int, reason: str) -> None:
        """A replica is given up for ever; because it was removed, if the reason names a configuration."""
        found = REMOVAL.match(reason)
        if found is not None:
            self._tell(self._members.dropped(self._here().name, group, int(found[1])))

    def committed(self, replica: Replica[Any]) -> None:
        """A leader has moved its commit index: nobody may hold a lease of an earlier term any more."""
        self._members.committed(replica.group, replica.commit_index)
        term, _ = self._committing.get(replica.group, (0, ""))
        if replica.term >= term:
            self._committing[replica.group] = (replica.term, self._here().name)
        self._check_leases(replica.group)

    def _check_leases(self, group: int) -> None:
        for process in self._processes:
            if not process.life.is_over:
                self.check_lease(process, process.groups._replicas.get(group))

    def pulsed(self, replica: Replica[Any], now: float) -> None:
        if replica.office is not None:
            self.check_lease(self._here(), replica)
        else:
            self.check_age(replica, now)

    def check_age(self, replica: Replica[Any], now: float) -> None:
        """A replica that says how old its rows may be has applied all that was shown before."""
        as_of = Freshness(replica.freshness.settled, list(replica.freshness.pending)).as_of(replica.applied_index)
        if as_of is None:
            return
        moment = asyncio.get_running_loop().time() - (now - as_of) * (1 + DRIFT_MAX)
        history = self._history.get(replica.group, [])
        known = bisect_left(history, (moment, 0))
        if known and replica.applied_index < history[known - 1][1]:
            self._tell(
                f"{self._here().name} says of group {replica.group} that it has what was shown before {moment:.3f}; it "
                f"has applied {replica.applied_index}, {history[known - 1][1]} was shown at {history[known - 1][0]:.3f}"
            )

    def check_lease(self, process: Process, replica: Replica[Any] | None) -> None:
        """Who may answer reads has all that was shown, and no leader of a later term has committed anything."""
        if replica is None or replica.office is None:
            return
        term, leader = self._committing.get(replica.group, (0, ""))
        shown = self._shown.get(replica.group, 0)
        if term <= replica.term and shown <= replica.applied_index:
            return
        if may_read(replica, process.groups._clock.now()):
            self._tell(
                f"{process.name} has a lease of group {replica.group} in term {replica.term} and has applied "
                f"{replica.applied_index}; {leader} has committed in term {term}, {shown} was shown"
            )

    def read_came(self, replica: Replica[Any], ticket: Any) -> None:
        """A leader is asked to confirm itself for a read (ReadIndex)."""
        self._due[ticket] = self._shown.get(replica.group, 0)

    def reads_confirmed(self, replica: Replica[Any]) -> None:
        """A read that is confirmed finds all that was shown when it came."""
        for ticket in replica.confirmed:
            due = self._due.pop(ticket)
            if replica.applied_index < due:
                self._tell(
                    f"{self._here().name} is confirmed in group {replica.group} for a read, has applied "
                    f"{replica.applied_index}, and {due} was shown when the read came"
                )
        for ticket in replica.unconfirmed:
            self._due.pop(ticket)

    def taken(self, replica: Replica[Any], committed: Any) -> None:
        """Entries that a replica is about to apply."""
        for entry in (each.entry for each in committed):
            fact = Committed(entry.term, xxh3_64_intdigest(entry.encoded))
            self._tell(self._logs.committed(self._here().name, replica.group, entry.index, fact))

    def applied(self, replica: Replica[Any], index: int) -> None:
        here = self._here()
        life = (here.groups._support._generation, replica.number)
        self._tell(self._logs.applied(here.life.name, life, replica.group, index))
        if replica.office is not None and index > self._shown.get(replica.group, 0):
            self._shown[replica.group] = index
            self._history.setdefault(replica.group, []).append((asyncio.get_running_loop().time(), index))
            self._check_leases(replica.group)

    def took_effect(self, group: int, request_id: bytes, index: int) -> None:
        self._tell(self._effects.took_effect(group, request_id, index))

    def stands(self, group: int, index: int, state: GroupState) -> None:
        """A replica has applied, or is about to, everything up to `index`."""
        self._tell(self._logs.stands(self._here().name, group, index, figures_of(state)))

    def _here(self) -> Process:
        """The process whose doing this is."""
        life = LIFE.get()
        return next(process for process in reversed(self._processes) if process.life is life)

    def _tell(self, complaint: str | None) -> None:
        if complaint is not None:
            self.accuse(complaint)


def life_name() -> str:
    life = LIFE.get()
    assert life is not None, "a node runs outside of any life"
    return life.name


def figures_of(state: GroupState) -> object:
    """What a group counts of itself: cheap to compare, and hardly ever right by chance."""
    return (state.revision, state.keys, state.bytes, state.dedupe_records)


def may_read(replica: Replica[Any], now: float) -> bool:
    """As the replica itself would say, without a trace of the question."""
    office = replica.office
    assert office is not None
    known_until = office._lease_known_until
    answer = replica.may_read(now)
    office._lease_known_until = known_until
    return answer


@contextmanager
def witnessed() -> Iterator[Witness]:
    """Watches all replicas while the block runs."""
    witness = Witness()
    places: list[tuple[object, str, Callable[[Witness], Callable[[Any], Any]]]] = [
        (Groups, "__init__", watch_processes),
        (Replica, "take_office", watch_elections),
        (Replica, "pulse", watch_pulses),
        (Replica, "take_committed", watch_committed),
        (Replica, "applied", watch_applied),
        (Replica, "confirm", watch_reads),
        (Ticks, "_answer_reads", watch_confirmed),
        (Leadership, "advance_commit", watch_commits),
        (RecordMachine, "_run", watch_effects),
        (RecordMachine, "apply", watch_states),
        (Hosting, "finish_install", watch_installs),
        (Replica, "persisted", watch_promises),
        (Groups, "_make_replica", watch_openings),
        (Leadership, "_change_for", watch_promotions),
        (Replica, "propose_configuration", watch_configurations),
        (Hosting, "bury", watch_burials),
    ]
    with ExitStack() as stack:
        for owner, name, make in places:
            stack.enter_context(patched(owner, name, make(witness)))
        yield witness


def watch_processes(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def begin(self: Groups, *arguments: Any, **settings: Any) -> None:
            original(self, *arguments, **settings)
            witness.process_began(self)

        return begin

    return make


def newest_of(replica: Replica[Any]) -> tuple[Configuration, int]:
    return replica.configuration, replica.configuration_index


def watch_configurations(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def propose(self: Replica[Any], configuration: Configuration, expected_index: int, now: float) -> bool:
            before, index = self.configuration, self.configuration_index
            is_appended: bool = original(self, configuration, expected_index, now)
            if is_appended:
                witness.configured(self, before, index)
            return is_appended

        return propose

    return make


def watch_burials(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def bury(self: Hosting, group: int, reason: str, *, since: int = 0) -> None:
            witness.buried(group, reason)
            original(self, group, reason, since=since)

        return bury

    return make


def watch_elections(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def take_office(self: Replica[Any], now: float) -> None:
            original(self, now)
            witness.elected(self)

        return take_office

    return make


def watch_pulses(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def pulse(self: Replica[Any], now: float) -> bool:
            witness.pulsed(self, now)
            is_news: bool = original(self, now)
            return is_news

        return pulse

    return make


def watch_committed(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def take_committed(self: Replica[Any]) -> Any:
            committed = original(self)
            witness.taken(self, committed)
            return committed

        return take_committed

    return make


def watch_applied(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def applied(self: Replica[Any], index: int, now: float) -> None:
            original(self, index, now)
            witness.applied(self, index)

        return applied

    return make


def watch_commits(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def advance_commit(self: Leadership[Any], now: float) -> None:
            before = self._replica.commit_index
            original(self, now)
            if self._replica.commit_index > before:
                witness.committed(self._replica)

        return advance_commit

    return make


def watch_reads(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def confirm(self: Replica[Any], ticket: Any, now: float) -> None:
            witness.read_came(self, ticket)
            original(self, ticket, now)

        return confirm

    return make


def watch_confirmed(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def answer_reads(self: Ticks, replica: Replica[Any]) -> None:
            witness.reads_confirmed(replica)
            original(self, replica)

        return answer_reads

    return make


def watch_effects(witness: Witness) -> Callable[[Any], Any]:
    """A command had an effect if it raised the group's revision."""

    def make(original: Any) -> Any:
        def run(self: RecordMachine, command: Command, staged: Any) -> Any:
            before = self.state.revision
            outcome = original(self, command, staged)
            if self.state.revision > before:
                witness.took_effect(self._group, command.request_id, self.state.applied_index)
            return outcome

        return run

    return make


def watch_states(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def apply(self: RecordMachine, index: int, *arguments: Any) -> Any:
            outcomes = original(self, index, *arguments)
            witness.stands(self._group, index, self.state)
            return outcomes

        return apply

    return make


def watch_installs(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def finish_install(self: Hosting, group: int, state: GroupState) -> None:
            witness.installed(group, state)
            original(self, group, state)

        return finish_install

    return make


def watch_promises(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def persisted(self: Replica[Any], mark: tuple[int, int, int], now: float) -> None:
            witness.persisted(self, mark)
            original(self, mark, now)

        return persisted

    return make


def watch_openings(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def make_replica(self: Groups, *arguments: Any) -> Replica[Any]:
            replica: Replica[Any] = original(self, *arguments)
            witness.opened(replica)
            return replica

        return make_replica

    return make


def watch_promotions(witness: Witness) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def change_for(self: Leadership[Any], member: ReplicaId, progress: Any, now: float) -> Configuration | None:
            change: Configuration | None = original(self, member, progress, now)
            if change is not None and not progress.is_gone:
                witness.promoted(self._replica.group, member)
            return change

        return change_for

    return make
