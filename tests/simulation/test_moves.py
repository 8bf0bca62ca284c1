"""Whole nodes that come and go, without faults: what orders do, what they refuse, and who ends up where."""

import pytest

from ringhold.api.errors import RingholdError
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import ChangeTopologyRequest
from ringhold.api.proto.ringhold.v1 import cluster_pb2
from ringhold.api.proto.ringhold.v1.cluster_pb2 import Change
from ringhold.node.consensus.tickets import NotLeader
from ringhold.node.node import Node
from ringhold.ring.topology import NodeState

from .calm import Calm, calmly
from .health import leader_of
from .loop import let_pass, until
from .machines import PARTITIONS


def test_a_node_that_joins_gets_its_share_and_serves_it() -> None:
    """JOINING, then NORMAL once its replicas vote; who held them before has dropped them; every record is there."""

    async def story(calm: Calm) -> None:
        await calm.write(30)
        machine = await calm.join()
        await calm.settle()
        assert calm.state(machine.name) is NodeState.NORMAL
        for partition, targets in enumerate(calm.topology.targets):
            names = {each.name for each in calm.machines if each.node_id in targets}
            await calm.until(lambda g=partition + 1, n=names: calm.holders(g) == n)  # type: ignore[misc]
            hosting = {each.name for each in calm.machines if each.node and each.node.groups.hosts(partition + 1)}
            assert hosting == names
        held = [sum(machine.node_id in targets for targets in calm.topology.targets) for machine in calm.machines]
        assert max(held) - min(held) <= 1
        await calm.read(30, machine.name)

    calmly(story)


def test_a_node_that_is_decommissioned_serves_until_it_is_out() -> None:
    """LEAVING while it still holds something, REMOVED after; until_removed returns then, and it takes nothing more."""

    async def story(calm: Calm) -> None:
        await calm.write(20)
        machine = await calm.join()
        await calm.settle()
        await calm.on("n1", lambda node: node.moving.departure.decommission_self())
        assert calm.state("n1") is NodeState.LEAVING
        assert calm.node("n1").ready
        await calm.on("n1", lambda node: node.moving.departure.until_removed())
        assert calm.state("n1") is NodeState.REMOVED
        assert not calm.node("n1").ready
        assert all("n1" not in calm.holders(group) for group in calm.topology.groups)
        await calm.read(20, machine.name)
        await calm.order(Change(decommission="n1"))  # once more: he has what he wants

    calmly(story)


def test_an_order_that_is_taken_back_leaves_everything_where_it_was() -> None:
    """Keep, right after decommission: the targets are the old ones, and hardly anything has moved."""

    async def story(calm: Calm) -> None:
        await calm.join()
        await calm.settle()
        before = [set(targets) for targets in calm.topology.targets]
        await calm.order(Change(decommission="n1"))
        await calm.order(Change(keep="n1"))
        await calm.settle()
        assert [set(targets) for targets in calm.topology.targets] == before
        assert calm.state("n1") is NodeState.NORMAL

    calmly(story)


def test_a_dry_run_tells_and_changes_nothing() -> None:
    """What would move, loads before and after; the epoch is the same as before, and so is every target."""

    async def story(calm: Calm) -> None:
        await calm.write(10)
        before = calm.topology
        planned = await calm.order(Change(add=2), dry_run=True)
        assert planned.epoch == before.epoch
        assert {load.name for load in planned.loads} == {"n1", "n2", "n3", "new-1", "new-2"}
        assert planned.moves
        assert planned.bytes > 0
        alive = await calm.order(Change(remove="n3"), dry_run=True)
        assert alive.warnings
        assert calm.topology == before

    calmly(story)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Change(decommission="nobody"), "NODE_UNKNOWN"),
        (Change(remove="n1"), "CHANGE_REFUSED"),
        (Change(replication_factor=10), "CHANGE_INVALID"),
        (Change(add=1), "CHANGE_INVALID"),
        (Change(), "CHANGE_INVALID"),
    ],
)
def test_an_order_that_cannot_be_carried_out_is_refused(change: Change, reason: str) -> None:
    """P9: one clear error, and nothing has changed."""

    async def story(calm: Calm) -> None:
        before = calm.topology
        with pytest.raises(RingholdError) as caught:
            await calm.order(change)
        assert caught.value.reason == reason
        assert calm.topology == before

    calmly(story)


def test_a_peer_is_told_what_it_can_not_ask() -> None:
    """An order that can't be read, or that comes to a node that does not lead, changes nothing and stops nobody."""

    async def story(calm: Calm) -> None:
        async def ask(node: Node) -> object:
            return await node.moving.orders.carry_out(ChangeTopologyRequest(change=b"\xff"))

        before = calm.topology
        for machine in calm.machines:
            with pytest.raises((RingholdError, NotLeader)):
                await calm.on(machine.name, ask)
        assert calm.topology == before

    calmly(story)


def test_the_last_node_can_not_leave() -> None:
    """Somebody must hold what there is: the order is refused, and says so."""

    async def story(calm: Calm) -> None:
        with pytest.raises(RingholdError, match="no node would be left"):
            await calm.order(Change(decommission="n1"), Change(decommission="n2"), Change(decommission="n3"))
        assert calm.topology.is_settled

    calmly(story)


def test_more_and_fewer_replicas() -> None:
    """RF 3 to 4 adds one to each partition, and back removes it; the system group keeps an odd number of voters."""

    async def story(calm: Calm) -> None:
        await calm.join()
        await calm.settle()
        for number in (4, 2):
            await calm.order(Change(replication_factor=number))
            await calm.settle()
            assert {len(calm.holders(group)) for group in range(1, PARTITIONS + 1)} == {number}
            assert len(calm.topology.system_voters) in {1, 3}

    calmly(story)


def test_a_node_that_was_away_while_it_was_removed_from_a_group_asks_and_drops_it() -> None:
    """Nobody speaks to such a replica any more; it may only go by a committed configuration, so it asks for one."""

    async def story(calm: Calm) -> None:
        await calm.join()
        await calm.settle()
        calm.machine("n1").die(0.0, silently=False)
        targets = [set(targets) for targets in calm.topology.targets]
        await until(lambda: all(leader_of(g, calm.machines) is not None for g in calm.topology.groups))
        await calm.order(Change(cordon="n1"), Change(replication_factor=2))
        await calm.until(lambda: len(calm.holders(1)) == 2)
        await calm.order(Change(replication_factor=3))
        calm.machine("n1").boot()
        await calm.settle()
        assert targets
        node = calm.node("n1")
        due = {group for group in calm.topology.groups if calm.machine("n1").node_id in calm.topology.targets_of(group)}
        await calm.until(lambda: set(node.groups.hosted) == due)

    calmly(story)


def test_a_machine_that_is_lost_is_removed_and_its_replicas_are_made_anew() -> None:
    """Refused while it is alive; afterwards nobody waits for it, and its partitions have three good replicas again."""

    async def story(calm: Calm) -> None:
        await calm.write(20)
        machine = await calm.join()
        await calm.settle()
        calm.machine("n3").die(0.0, silently=True)
        calm.machines.remove(calm.machine("n3"))
        await let_pass(10)  # until gossip is sure
        await calm.order(Change(remove="n3"))
        await calm.settle()
        assert {len(calm.holders(group)) for group in range(1, PARTITIONS + 1)} == {3}
        await calm.read(20, machine.name)

    calmly(story)


def test_a_new_node_takes_the_name_and_the_replicas_of_a_dead_one() -> None:
    """A pod that has lost its volume: nobody orders anything, and the old id never comes back."""

    async def story(calm: Calm) -> None:
        await calm.write(20)
        lost = calm.machine("n3")
        lost.die(0.0, silently=True)
        calm.machines.remove(lost)
        await let_pass(1)
        machine = await calm.join("n3")
        await calm.settle()
        old = calm.topology.node(lost.node_id)
        assert old is not None
        assert old.state is NodeState.REMOVED
        assert calm.state(machine.name) is NodeState.NORMAL
        assert {len(calm.holders(group)) for group in range(1, PARTITIONS + 1)} == {3}
        await calm.read(20, machine.name)

    calmly(story)


def test_the_status_tells_of_moves_until_all_is_settled() -> None:
    """Any node tells which groups are on the move, from where to where; then that everything is where it should be."""

    async def story(calm: Calm) -> None:
        machine = await calm.join()
        seen: list[cluster_pb2.StatusResponse] = []
        while not seen or not seen[-1].is_settled:
            clock = calm.machine("n2").clock
            answer = await calm.on("n2", lambda node: node.overview.status(clock.now() + 5))  # noqa: B023
            assert isinstance(answer, cluster_pb2.StatusResponse)
            seen.append(answer)
            await let_pass(0.1)
        moves = [move for status in seen for move in status.moves]
        assert any(list(move.adding) == [machine.name] and len(move.removing) == 1 for move in moves)
        assert not seen[-1].moves
        assert seen[-1].replication_factor == 3

    calmly(story)
