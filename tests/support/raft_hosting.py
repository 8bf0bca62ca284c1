"""What a node's shell does with its replica besides ticks: rows that go bad, snapshots, replicas that are gone.

For the group under virtual time of raft_group.py. It stands for node/consensus/hosting.py and node/snapshots/, and it
crashes, hangs and comes back with its node between any two steps.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from support.raft_disk import Disk, Snapshot, Stored, give_up_batch, install_batch

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import RaftMessage
from ringhold.node.consensus.configuration import Configuration, ReplicaId
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.messages import GONE, OF_LEADER, OFFER, Outbound

if TYPE_CHECKING:
    from support.raft_group import RaftGroup
    from support.raft_node import Node


class Hosting:
    """The replicas of all nodes of a group, how they fare."""

    def __init__(self, group: "RaftGroup") -> None:
        self._group = group
        self.snapshot_s = (0.01, 0.3)
        """How long the making, the way and the installation of a snapshot take, each."""
        self.installed = self.replaced = 0

    # Faults

    def damage(self, node: "Node") -> None:
        """The rows of a replica turn out to be bad."""
        assert node.disk is not None
        node.replica.give_up_rows()
        node.disk.write(give_up_batch)
        self._group.after(node)

    def destroy(self, node: "Node") -> None:
        """The node crashes and loses the log and the vote of its replica; it knows of the loss."""
        assert node.disk is not None
        number = node.disk.view.number
        self._group.crash(node.node_id)
        node.disk = None
        node.buried = number

    def bury(self, node: "Node") -> None:
        """The replica here never speaks again."""
        replica = node.replica
        replica.retire(self._group.now(node))
        self._group.send_off(node)
        node.buried = replica.number
        node.disk = None
        node.close()

    def may_lose(self, name: str) -> bool:
        """Whether most voters of each configuration that may be valid are good without the replica of this node.

        Learners count as if they voted: their leader may be about to promote them.
        """
        return all(
            sum(voter.node_id != name and self.is_good(voter) for voter in each.voters) >= each.quorum
            for each in self._configurations()
        )

    def is_good(self, replica: ReplicaId) -> bool:
        """Whether a replica of that id has all it should have, be its node up or not."""
        disk = self._group.nodes[replica.node_id].disk
        return disk is not None and disk.view.number == replica.number and disk.is_healthy

    def _configurations(self) -> Iterator[Configuration]:
        for node in self._group.nodes.values():
            if node.disk is not None:
                found = node.hosted.configurations if node.hosted is not None else None
                candidates = (
                    found.all if found is not None else [each for _, each in node.disk.recovered().configurations]
                )
                for each in candidates:
                    if each.voters:
                        yield from (each, Configuration((*each.voters, *each.learners)))

    # Messages to other replicas than the one that is here

    def addressed(self, node: "Node", source: str, message: RaftMessage) -> Replica[int] | None:
        """The replica that a message is for; made if it is new, and said to be gone if it is."""
        number = message.target_replica
        if node.hosted is not None and node.hosted.number == number:
            return node.hosted
        if message.kind not in OF_LEADER:
            return None
        present = node.hosted.number if node.hosted is not None else node.buried
        if number <= present:
            self._say_gone(node, source, message)
        elif message.kind == OFFER:
            if node.hosted is not None:
                self.bury(node)
            self._make(node, number)
        return node.hosted if number > present else None

    def _say_gone(self, node: "Node", source: str, message: RaftMessage) -> None:
        gone = RaftMessage(
            kind=GONE,
            group=message.group,
            source_replica=message.target_replica,
            target_replica=message.source_replica,
        )
        self._group.post(node, [Outbound(source, gone)])

    def _make(self, node: "Node", number: int) -> None:
        self.replaced += 1
        node.disk = Disk(Stored(number, 0, Configuration(()), is_healthy=False))
        node.is_ticking = node.is_syncing = node.is_installing = False
        self._group.open(node, 0.0)

    # Snapshots

    def offered(self, node: "Node", leader: str) -> None:
        """The replica here needs a snapshot; its leader has one, or another member may have."""
        if node.fetches < 2:
            node.fetches += 1
            self._later(node, self._fetch, node.replica, leader)

    def _later(self, node: "Node", action: object, *arguments: object) -> None:
        assert callable(action)
        when = self._group.time + self._group.rng.uniform(*self.snapshot_s)
        self._group.on(when, node, action, *arguments)

    def _fetch(self, node: "Node", replica: Replica[int], leader: str) -> None:
        group = self._group
        sources = [leader, *group.rng.sample(sorted(group.nodes), len(group.nodes))]
        for source in (group.nodes[name] for name in sources):
            if source is node or source.hosted is None or not source.replica.is_healthy:
                continue
            if not group.link(node.node_id, source.node_id).is_blocked:
                assert source.disk is not None
                if source.replica.office is not None:
                    index, now = source.replica.applied_index, group.now(source)
                    source.replica.office.snapshot_under_way(node.node_id, index, now)
                self._later(node, self._begin, replica, source.disk.view.snapshot)
                return
        node.fetches -= 1

    def _begin(self, node: "Node", replica: Replica[int], snapshot: Snapshot) -> None:
        """Replace the rows, if the snapshot is of use here still and no other is being installed."""
        if node.hosted is not replica or node.is_installing or not replica.following.wants(snapshot.said.index):
            node.fetches -= 1
            return
        node.is_installing = True
        if replica.is_healthy:
            self.damage(node)
        self._later(node, self._finish, replica, snapshot)

    def _finish(self, node: "Node", replica: Replica[int], snapshot: Snapshot) -> None:
        node.fetches -= 1
        if node.hosted is not replica:
            return
        node.is_installing = False
        assert node.disk is not None
        said = snapshot.said
        node.disk.write(install_batch(snapshot, replica.following.contradicted_by(said.index, said.term)))
        replica.following.installed(said, self._group.now(node))
        self.installed += 1
        self._group.witness.installed(node.node_id, replica, snapshot)
