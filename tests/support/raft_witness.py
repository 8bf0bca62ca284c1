"""Sees every event of a group of Raft's cores and knows what must hold after each (the dissertation's figure 3.2)."""

from bisect import bisect_right
from typing import TYPE_CHECKING

from support.raft_disk import Snapshot, rows_after

from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.log import Entry
from ringhold.node.consensus.states import Writes

if TYPE_CHECKING:
    from support.raft_group import RaftGroup
    from support.raft_node import Node


class Witness:
    """What has happened so far, and the rules about it. A broken rule is an AssertionError."""

    def __init__(self) -> None:
        self.leader_of_term: dict[int, str] = {}
        self.committed: list[tuple[int, bytes]] = [(0, b"")]
        """(term, encoded) by index: what any replica has ever committed."""
        self.rows = [0]
        """By index: what the rows are once everything up to it is applied."""
        self.entries: dict[tuple[int, int], tuple[bytes, int]] = {}
        """By (index, term): the entry, and the term of the one before."""
        self.outcomes: dict[int, str] = {}
        self.commands: set[int] = set()
        """Tickets of the commands in committed entries."""
        self.reads_done = 0
        self._checked: dict[str, int] = {}
        self._acknowledged = [(0.0, 0)]
        """(time, index): from then on commands up to that index had been answered."""
        self._reads: dict[int, int] = {}
        self._log_time_ms = 0

    def opened(self, node_id: str, applied_index: int) -> None:
        self._checked[node_id] = applied_index

    def installed(self, node_id: str, replica: Replica[int], snapshot: Snapshot) -> None:
        """A snapshot's rows are those that applying its entries would have made."""
        index = snapshot.said.index
        assert index < len(self.committed), f"a snapshot of {index} holds what nobody has committed"
        assert snapshot.rows == self.rows[index], f"a snapshot of {index} holds other rows than its entries make"
        assert snapshot.said.term == self.committed[index][0]
        self._checked[node_id] = max(self._checked[node_id], index)

    def check(self, group: "RaftGroup", node: "Node") -> None:
        """An event has changed this node."""
        replica = node.hosted
        if replica is None:
            return
        self._check_commits(node.node_id, replica)
        if replica.leads:
            self._check_leader(node.node_id, replica)
        self._check_leases(group)

    def _check_leader(self, node_id: str, replica: Replica[int]) -> None:
        if replica.term in self.leader_of_term:
            leader = self.leader_of_term[replica.term]
            assert leader == node_id, f"election safety: {leader} and {node_id} lead term {replica.term}"
            return
        self.leader_of_term[replica.term] = node_id
        for index, (term, encoded) in enumerate(self.committed):
            if index > replica.log.first_index and term < replica.term:
                assert replica.log.term(index) == term, f"leader completeness: {node_id} lacks entry {index}"
                assert self.entries[index, term][0] == encoded

    def _check_commits(self, node_id: str, replica: Replica[int]) -> None:
        start = self._checked[node_id] + 1
        if replica.commit_index < start:
            return
        for index in range(start, replica.commit_index + 1):
            (entry,) = replica.log.entries(index, index, 0)
            assert entry.index == index
            self._check_committed(entry)
        self._checked[node_id] = replica.commit_index

    def _check_committed(self, entry: Entry) -> None:
        if entry.index < len(self.committed):
            known = self.committed[entry.index]
            assert known == (entry.term, entry.encoded), f"state machine safety: entry {entry.index} has changed"
            return
        assert entry.content.log_time_ms >= self._log_time_ms, "log time went back"
        self._log_time_ms = entry.content.log_time_ms
        self.committed.append((entry.term, entry.encoded))
        self.rows.append(rows_after(self.rows[-1], entry.encoded))
        for command in entry.content.commands:
            ticket = int.from_bytes(command, "big")
            assert ticket not in self.commands, f"command {ticket} is committed twice"
            assert self.outcomes.get(ticket) != "refused", f"command {ticket} was refused and is committed"
            self.commands.add(ticket)

    def _check_leases(self, group: "RaftGroup") -> None:
        leaders = group.leaders
        if len(leaders) < 2:
            return
        newest = max(node.replica.term for node in leaders)
        for node in leaders:
            if node.replica.term < newest and node.is_up:
                assert not node.replica.may_read(group.now(node)), f"{node.node_id} has a lease while another leads"

    def wrote(self, node_id: str, replica: Replica[int], writes: Writes) -> None:
        """Log matching (3.5): an index and a term name one entry and all that is before it."""
        for entry in writes.entries:
            before = replica.log.term(entry.index - 1)
            known = self.entries.setdefault((entry.index, entry.term), (entry.encoded, before or 0))
            assert known == (entry.encoded, before), f"log matching: {node_id} has another entry {entry.index}"

    def resolved(self, ticket: int, outcome: str) -> None:
        assert ticket not in self.outcomes, f"command {ticket} is {outcome} after it was {self.outcomes[ticket]}"
        assert outcome != "refused" or ticket not in self.commands, f"command {ticket} is refused but committed"
        self.outcomes[ticket] = outcome

    def answered(self, ticket: int, entry: Entry, time: float) -> None:
        self.resolved(ticket, "answered")
        assert ticket.to_bytes(4, "big") in entry.content.commands
        if entry.index > self._acknowledged[-1][1]:
            self._acknowledged.append((time, entry.index))

    def read_began(self, ticket: int) -> None:
        self._reads[ticket] = self._acknowledged[-1][1]

    def read_released(self, ticket: int, replica: Replica[int]) -> None:
        wanted = self._reads.pop(ticket)
        assert replica.applied_index >= wanted, (
            f"a read at {replica.node_id} sees entry {replica.applied_index}, but {wanted} was answered before it"
        )
        self.reads_done += 1

    def read_stale(self, as_of: float, replica: Replica[int]) -> None:
        """A replica says that it has all that was answered up to a moment."""
        position = bisect_right(self._acknowledged, (as_of, 0)) - 1
        wanted = self._acknowledged[max(0, position)][1]
        assert replica.applied_index >= wanted, f"{replica.node_id} lacks entry {wanted} and does not say so"
