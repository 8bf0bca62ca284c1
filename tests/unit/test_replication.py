"""Three nodes replicate many groups: what shares a write, a sync, a frame, and what leaves before or after a sync."""

import asyncio

import pytest
from support.replicas import propose, rows_of
from support.rows import set_of
from support.trio import Trio, trio
from support.virtual_time import pass_time, reached, virtual

from ringhold.node import keyspace
from ringhold.node.consensus.messages import APPEND, APPENDED, PRE_VOTE, VOTE, VOTED
from ringhold.node.machine.machine import load_state
from ringhold.node.storage.engine import EngineFailed
from ringhold.node.storage.memory import MemoryEngine

MANY = range(1, 21)


def last_stored(engine: MemoryEngine, group: int) -> int:
    """The index of the newest log entry that the engine holds."""
    rows = engine.scan(*keyspace.kind_range(keyspace.Kind.LOG, group), limit=1, reverse=True)
    return keyspace.split_log_key(rows[0][0])[1]


def costs(nodes: Trio) -> dict[str, tuple[int, int]]:
    """Engine writes and syncs of each node so far."""
    return {name: (node.engine.stats().batches_written, node.gate.asked) for name, node in nodes.nodes.items()}


@virtual
async def test_many_groups_share_one_write_one_sync_and_one_frame_per_peer() -> None:
    """A tick costs the same for one group as for twenty: entries go down together, and so do the rows."""
    async with trio(*MANY) as nodes:
        before = costs(nodes)
        nodes.network.frames.clear()
        leader = nodes["n1"].groups
        await asyncio.gather(*(propose(leader, group, set_of(b"k"), request_id=b"1") for group in MANY))
        await reached(nodes.settled)
        for name, (writes, syncs) in costs(nodes).items():
            assert (writes - before[name][0], syncs - before[name][1]) == (2, 1)
        for peer in ("n2", "n3"):
            appended, *_ = [count for source, target, count in nodes.network.frames if (source, target) == ("n1", peer)]
            assert appended == len(MANY)
            answered = [count for source, _, count in nodes.network.frames if source == peer]
            assert answered == [len(MANY)]


@virtual
async def test_an_append_leaves_before_the_sync_and_its_acknowledgement_after() -> None:
    """P1: a copy counts once it is durable, the leader's own too; which majority that is does not matter."""
    async with trio(1) as nodes:
        nodes.network.sent.clear()
        nodes["n1"].gate.close()
        nodes["n2"].gate.close()
        ticket = propose(nodes["n1"].groups, 1, set_of(b"k"), request_id=b"1")
        await pass_time(0.02)
        assert nodes.network.kinds("n1", "n2") == [APPEND]
        assert nodes.network.kinds("n2", "n1") == []
        assert nodes.network.kinds("n3", "n1") == [APPENDED]
        assert not ticket.done()
        nodes["n2"].gate.open()
        await ticket
        assert nodes["n1"].gate.waiting


@virtual
async def test_an_apply_does_not_wait_for_the_sync_under_way() -> None:
    """What others have made durable is applied and answered here; if the own copy is lost, it comes back from them."""
    async with trio(1) as nodes:
        nodes["n1"].gate.close()
        await propose(nodes["n1"].groups, 1, set_of(b"k"), request_id=b"1")
        assert nodes["n1"].gate.waiting
        assert list(rows_of(nodes["n1"].engine, 1)) == [b"k"]
        nodes.crash("n1")
        nodes.restart("n1")
        assert rows_of(nodes["n1"].engine, 1) == {}
        await reached(nodes.settled)
        assert list(rows_of(nodes["n1"].engine, 1)) == [b"k"]


@virtual
async def test_rows_are_never_ahead_of_the_stored_log() -> None:
    """A follower that knows of a commit before it could store the entry applies it only afterwards."""
    async with trio(1) as nodes:
        follower = nodes["n2"]
        follower.gate.close()
        for number in range(5):
            await propose(nodes["n1"].groups, 1, set_of(b"%d" % number), request_id=b"%d" % number)
        await pass_time(0.2)
        applied = load_state(follower.engine, 1).applied_index
        assert applied <= last_stored(follower.engine, 1) < nodes["n1"].groups.machine(1).state.applied_index
        follower.gate.open()
        await reached(nodes.settled)
        assert len(rows_of(follower.engine, 1)) == 5


@virtual
async def test_votes_leave_after_their_sync() -> None:
    """Figure 2: neither a candidate's own vote nor one for another may be forgotten; pre-votes bind nobody."""
    async with trio(1) as nodes:
        for name in ("n2", "n3"):
            nodes[name].gate.close()
        nodes.crash("n1")
        nodes.network.sent.clear()
        await pass_time(4)
        kinds = nodes.network.kinds("n2", "n3") + nodes.network.kinds("n3", "n2")
        assert PRE_VOTE in kinds
        assert VOTE not in kinds
        nodes["n2"].gate.open()
        await reached(lambda: VOTE in nodes.network.kinds("n2", "n3"))
        await pass_time(0.05)
        assert VOTED not in nodes.network.kinds("n3", "n2")
        nodes["n3"].gate.open()
        await reached(lambda: nodes.leader_of(1))


@pytest.mark.parametrize("fault", ["fail_next_write", "fail_next_sync"])
@pytest.mark.parametrize("victim", ["n1", "n2"])
@virtual
async def test_a_failed_engine_stops_its_node_and_the_others_go_on(fault: str, victim: str) -> None:
    """A failed sync is never retried: nothing is acknowledged by that node any more, leader or not."""
    async with trio(1) as nodes:
        nodes.network.sent.clear()
        setattr(nodes[victim].engine, fault, EngineFailed("EIO"))
        ticket = propose(nodes["n1"].groups, 1, set_of(b"k"), request_id=b"1")
        with pytest.raises(EngineFailed, match="EIO"):
            await nodes[victim].running
        assert APPENDED not in nodes.network.kinds(victim, "n1")
        in_doubt = {b"k"} if victim == "n1" else set()
        assert not (in_doubt and ticket.done())
        nodes.crash(victim)
        await reached(nodes.settled)
        leader = nodes[nodes.leader_of(1) or ""].groups
        await propose(leader, 1, set_of(b"more"), request_id=b"2")
        await reached(nodes.settled)
        for node in nodes.nodes.values():
            assert set(rows_of(node.engine, 1)) | in_doubt == {b"k", b"more"}


@virtual
async def test_what_was_acknowledged_survives_the_loss_of_every_machine_at_once() -> None:
    """P1: a majority had it durably, and a majority elects only whom has it."""
    async with trio(*MANY) as nodes:
        leader = nodes["n1"].groups
        await asyncio.gather(*(propose(leader, group, set_of(b"k"), request_id=b"1") for group in MANY))
        for name in ("n1", "n2", "n3"):
            nodes.crash(name)
        for name in ("n1", "n2", "n3"):
            nodes.restart(name)
        await reached(nodes.settled)
        for node in nodes.nodes.values():
            assert all(list(rows_of(node.engine, group)) == [b"k"] for group in MANY)
            assert node.groups.commands_waiting == 0


@virtual
async def test_a_restarted_node_does_not_vote_while_it_may_be_bound() -> None:
    """DESIGN 7: a leader may still count on promises that the restart has forgotten, for 1.1 times their length."""
    async with trio(1) as nodes:
        nodes.network.cut("n1", ["n3"])
        await pass_time(3)
        assert nodes.leader_of(1) == "n1"
        nodes.crash("n2")
        nodes.network.cut("n1", ["n2"])
        nodes.restart("n2")
        began = nodes.clock.now()
        await reached(lambda: nodes["n2"].groups.leads(1) or nodes["n3"].groups.leads(1))
        assert nodes.clock.now() - began >= 1.1
        assert not nodes["n1"].groups.leads(1)
