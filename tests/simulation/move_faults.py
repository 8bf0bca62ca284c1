"""Bugs to plant in what moves replicas and changes the ring."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from ringhold.gossip.member import MemberState
from ringhold.node.consensus.configuration import Configuration, ReplicaId
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.leadership import Leadership
from ringhold.node.consensus.reconfiguring import LedGroup, Reconfiguring
from ringhold.node.consensus.ticks import Ticks
from ringhold.node.keyspace import Kind, kind_of
from ringhold.node.moving import mover, steps
from ringhold.node.moving.admission import Admission
from ringhold.node.moving.amendments import Amendments
from ringhold.node.moving.mover import Mover
from ringhold.node.moving.placements import Placements
from ringhold.node.routes import Routes
from ringhold.node.snapshots.chunks import RowCutter
from ringhold.node.storage.engine import Row
from ringhold.ring.changes import ChangeRefused, remove
from ringhold.ring.topology import NodeState, Topology

from .patches import patched


@contextmanager
def voter_before_it_caught_up() -> Iterator[None]:
    """A newcomer votes from the beginning, with nothing in its log."""

    def make(_: Any) -> Any:
        def adding(self: Configuration, node_id: str, number: int) -> Configuration:
            return Configuration((*self.voters, ReplicaId(node_id, number)), self.learners)

        return adding

    with patched(Configuration, "adding", make):
        yield


@contextmanager
def data_dropped_before_it_was_committed() -> Iterator[None]:
    """A replica is buried by a configuration that was only appended, and that may yet be undone."""

    def make(original: Any) -> Any:
        def settle(self: Ticks, replica: Replica[Any]) -> None:
            original(self, replica)
            index, configuration = replica.configuration_index, replica.configuration
            if index > replica.number and configuration.voters and replica.node_id not in configuration.members:
                self.on_configuration(replica.group, index, configuration)

        return settle

    with patched(Ticks, "settle", make):
        yield


@contextmanager
def two_voter_changes_at_once() -> Iterator[None]:
    """A change of a group is appended though the one before is not committed."""

    def change(_: Any) -> Any:
        def propose(self: Replica[Any], configuration: Configuration, expected_index: int, now: float) -> bool:
            committed, self.commit_index = self.commit_index, self.log.last_index
            try:
                return bool(original(self, configuration, expected_index, now))
            finally:
                self.commit_index = committed

        return propose

    def led(before: Any) -> Any:
        def all_committed(self: Reconfiguring) -> Iterator[LedGroup]:
            return (replace(each, is_committed=True) for each in before(self))

        return all_committed

    original = Replica.propose_configuration
    with patched(Replica, "propose_configuration", change), patched(Reconfiguring, "led", led):
        yield


@contextmanager
def snapshot_without_index_entries() -> Iterator[None]:
    """A snapshot brings the records and forgets how they are found."""

    def make(original: Any) -> Any:
        def next_rows(self: RowCutter) -> list[Row]:
            rows: list[Row] = original(self)
            return [row for row in rows if kind_of(row[0]) is not Kind.INDEX]

        return next_rows

    with patched(RowCutter, "next_rows", make):
        yield


@contextmanager
def replica_id_used_again() -> Iterator[None]:
    """Whoever comes back to a group gets the id that its replica there had before, or that of a founder."""

    def make(original: Any) -> Any:
        def adding(self: Configuration, node_id: str, number: int) -> Configuration:
            return original(self, node_id, min(number, 1))  # type: ignore[no-any-return]

        return adding

    with patched(Configuration, "adding", make):
        yield


@contextmanager
def replicas_by_liveness() -> Iterator[None]:
    """Whoever gossip believes to be dead is out, though nobody said so."""

    def make(original: Any) -> Any:
        async def all_told(self: Admission) -> bool:
            dead = [each.node_id for each in self._members() if each.state is MemberState.DEAD]
            topology = self._amendments.topology
            known = [node for node in dead if topology is not None and topology.node(node) is not None]
            if known and self._amendments.is_leader:
                try:
                    await self._amendments.amend(lambda current: without(current, known[0]))
                except (ChangeRefused, *mover.NOT_COMMITTED):
                    return False
            return bool(await original(self))

        return all_told

    with patched(Admission, "_all_told", make):
        yield


def without(topology: Topology, node_id: str) -> Topology:
    node = topology.node(node_id)
    return topology if node is None or node.state is NodeState.REMOVED else remove(topology, node_id)


@contextmanager
def removed_before_the_newcomer_votes() -> Iterator[None]:
    """Who is to leave goes first, whoever of the others is there, and the newcomer comes after."""

    def first(original: Any) -> Any:
        def next_step(targets: Any, placement: steps.Placement, is_alive: Any, copies: Any) -> Any:
            surplus = [node for node in placement.voters if node not in targets and node != placement.leader]
            if placement.is_committed and surplus and len(placement.voters) > 1:
                return steps._removal(placement, surplus[0])
            return original(targets, placement, is_alive, copies)

        return next_step

    def always(_: Any) -> Any:
        return lambda self, node, now: True

    with patched(steps, "next_step", first), patched(Leadership, "can_do_without", always):
        yield


@contextmanager
def out_while_it_still_holds() -> Iterator[None]:
    """A node that leaves is out as soon as it is no target any more, wherever its replicas are."""

    def make(original: Any) -> Any:
        def settle(topology: Topology, members: Any) -> Topology:
            imagined = {group: frozenset(topology.targets_of(group)) for group in topology.groups}
            leaves = any(node.state is NodeState.LEAVING for node in topology.nodes)
            return original(topology, imagined if leaves else members)  # type: ignore[no-any-return]

        return settle

    with patched(mover, "settle", make):
        yield


@contextmanager
def two_movers_of_any_epoch() -> Iterator[None]:
    """Every node moves replicas to where the topology that it happens to know wants them, and leaders obey them all."""

    def anybody(_: Any) -> Any:
        async def round_of_anybody(self: Mover) -> bool:
            topology = self._amendments._store.founding
            if topology is None:
                return False
            survey = await self._surveyor.survey(topology)
            for step in steps.next_steps(topology, survey.placements, self._is_alive):
                await self._take(step, topology.epoch)
            return bool(await original(self))

        return round_of_anybody

    original = Mover._round
    with patched(Mover, "_round", anybody), stale_epoch_accepted():
        yield


@contextmanager
def stale_epoch_accepted() -> Iterator[None]:
    """A leader does what a mover says that acts for an old topology, and believes whoever reports by one."""

    def obey(original: Any) -> Any:
        def configure(self: Placements, request: Any) -> Any:
            request.epoch = self._store.known.epoch
            return original(self, request)

        return configure

    def believe(original: Any) -> Any:
        def heard(self: mover.Survey, node_id: str, reply: Any) -> None:
            reply.epoch = self.topology.epoch
            original(self, node_id, reply)

        return heard

    with patched(Placements, "configure", obey), patched(mover.Survey, "heard", believe):
        yield


@contextmanager
def former_holders_forgotten() -> Iterator[None]:
    """Gateways look for a group only where it should be, not where it still is."""

    def make(original: Any) -> Any:
        def adopt(self: Routes, topology: Topology) -> None:
            original(self, replace(topology, moving=()))

        return adopt

    with patched(Routes, "adopt", make):
        yield


@contextmanager
def leader_of_the_system_group_not_asked() -> Iterator[None]:
    """Whoever has a copy of the topology believes that it may change it."""

    def make(_: Any) -> Any:
        return property(lambda self: True)

    with patched(Amendments, "is_leader", make):
        yield


MOVES: Sequence[Callable[[], AbstractContextManager[None]]] = (
    voter_before_it_caught_up,
    data_dropped_before_it_was_committed,
    two_voter_changes_at_once,
    snapshot_without_index_entries,
    replica_id_used_again,
    replicas_by_liveness,
    removed_before_the_newcomer_votes,
    out_while_it_still_holds,
    two_movers_of_any_epoch,
    stale_epoch_accepted,
)

MOVES_RARELY_SHOWN: Sequence[Callable[[], AbstractContextManager[None]]] = (
    former_holders_forgotten,
    leader_of_the_system_group_not_asked,
)
"""Bugs that do harm only together with others: epochs, configuration indexes, redirects each stand in for the next."""
