"""Leaderships that change hands without a failure: back to the preferred node, away from one that should not lead."""

import asyncio

import pytest
from support.replicas import leading, propose, rows_of
from support.rows import set_of
from support.trio import Trio, trio
from support.virtual_time import pass_time, reached, virtual

from ringhold.node.consensus.messages import PRE_VOTE, TIMEOUT_NOW
from ringhold.node.consensus.tickets import NotLeader
from ringhold.node.storage.memory import MemoryEngine

MANY = range(1, 13)


def leads_any(nodes: Trio, name: str) -> bool:
    groups = nodes[name].groups
    return any(map(groups.is_leader, groups.hosted))


@virtual
async def test_a_preferred_leader_gets_its_groups_back() -> None:
    """Once it has caught up, and without an election that anybody had to wait for."""
    async with trio(*MANY) as nodes:
        nodes.crash("n1")
        await reached(nodes.settled)
        nodes.restart("n1")
        nodes.network.sent.clear()
        await reached(lambda: len(nodes["n1"].groups.led) == len(MANY))
        assert all(PRE_VOTE not in nodes.network.kinds("n1", peer) for peer in ("n2", "n3"))
        assert nodes.network.kinds("n2", "n1").count(TIMEOUT_NOW) + nodes.network.kinds("n3", "n1").count(
            TIMEOUT_NOW
        ) == len(MANY)


@virtual
async def test_commands_during_a_handover_are_refused_or_carried_out() -> None:
    """None is in doubt: what the old leader appended is committed first, the rest was never appended."""
    async with trio(*MANY) as nodes:
        groups = nodes["n1"].groups
        groups.set_reluctant("test", True)
        outcomes: list[asyncio.Future[object]] = []
        number = 0
        while leads_any(nodes, "n1"):
            for group in filter(groups.is_leader, MANY):
                number += 1
                ticket = propose(groups, group, set_of(b"%d" % number), request_id=b"%d" % number)
                outcomes.append(asyncio.ensure_future(ticket))
            await pass_time(0.003)
        results = await asyncio.gather(*outcomes, return_exceptions=True)
        refused = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, NotLeader) for error in refused)
        assert len(refused) < number
        await reached(nodes.settled)
        assert sum(len(rows_of(nodes["n2"].engine, group)) for group in MANY) == number - len(refused)


@virtual
async def test_a_reluctant_node_hands_everything_over_and_takes_nothing_back() -> None:
    """While any reason holds; then its groups return."""
    async with trio(*MANY) as nodes:
        groups = nodes["n1"].groups
        groups.set_reluctant("disk full", True)
        groups.set_reluctant("other", True)
        await reached(lambda: not leads_any(nodes, "n1"))
        await reached(nodes.settled)
        groups.set_reluctant("other", False)
        await pass_time(5)
        assert groups.led == []
        groups.set_reluctant("disk full", False)
        await reached(lambda: len(groups.led) == len(MANY))


@virtual
async def test_a_drain_hands_over_first() -> None:
    """`hand_over` returns when nobody else could lead what is left here; others lead by then, with a lease soon."""
    async with trio(*MANY) as nodes:
        began = nodes.clock.now()
        await nodes["n1"].groups.hand_over()
        assert not leads_any(nodes, "n1")
        await reached(lambda: all(nodes.leader_of(group) in ("n2", "n3") for group in MANY))
        assert nodes.clock.now() - began < 1.5


@virtual
async def test_a_node_alone_has_nobody_to_hand_over_to() -> None:
    """It stops all the same, at once."""
    async with leading(MemoryEngine(), [1]) as replicas:
        async with asyncio.timeout(0.1):
            await replicas.hand_over()
        assert replicas.leads(1)


@pytest.mark.parametrize("unfit", ["dead", "reluctant", "lagging"])
@virtual
async def test_nobody_hands_over_to_a_node_that_should_not_lead(unfit: str) -> None:
    """To the dead nobody would answer, the reluctant would hand it back, who lags would have commands wait."""
    async with trio(1) as nodes:
        nodes["n2"].groups.set_reluctant("test", True)
        match unfit:
            case "dead":
                nodes.crash("n3")
            case "reluctant":
                nodes["n3"].groups.set_reluctant("test", True)
            case "lagging":
                nodes.network.hold("n1", "n3")
                await propose(nodes["n1"].groups, 1, set_of(b"k"), request_id=b"1")
        await pass_time(1.2)
        nodes.network.sent.clear()
        async with asyncio.timeout(0.1):
            await nodes["n1"].groups.hand_over()
        await pass_time(2)
        assert all(message.kind != TIMEOUT_NOW for _, _, message in nodes.network.sent)
        assert nodes["n1"].groups.leads(1)
        await propose(nodes["n1"].groups, 1, set_of(b"more"), request_id=b"2")


@virtual
async def test_a_leader_whose_sync_is_stuck_hands_over() -> None:
    """DESIGN 7: after a second, to whoever has all that is committed; when its disk is well, it leads again."""
    async with trio(1) as nodes:
        nodes["n1"].gate.close()
        await propose(nodes["n1"].groups, 1, set_of(b"k"), request_id=b"1")
        began = nodes.clock.now()
        await reached(lambda: not leads_any(nodes, "n1"))
        assert nodes.clock.now() - began < 2
        await reached(lambda: nodes.leader_of(1) in ("n2", "n3"))
        await propose(nodes[nodes.leader_of(1) or ""].groups, 1, set_of(b"more"), request_id=b"2")
        await pass_time(5)
        assert not leads_any(nodes, "n1")
        nodes["n1"].gate.open()
        await reached(lambda: nodes.leader_of(1) == "n1")
        await reached(nodes.settled)
        assert len(rows_of(nodes["n1"].engine, 1)) == 2


@virtual
async def test_after_a_handover_the_old_leader_reads_by_no_lease() -> None:
    """From the moment in which it told the successor to stand, for that may be elected at any time (section 3.10)."""
    async with trio(1) as nodes:
        groups = nodes["n1"].groups
        for source in ("n2", "n3"):
            nodes.network.hold(source, "n1")
        groups.set_reluctant("test", True)
        await reached(lambda: any(message.kind == TIMEOUT_NOW for _, _, message in nodes.network.sent))
        assert groups.is_leader(1)
        assert not groups.leads(1)
        with pytest.raises(NotLeader):
            groups.read(1, [b"k"])
        await reached(lambda: nodes.leader_of(1) in ("n2", "n3"))
        ticket = asyncio.ensure_future(groups.confirm(1))
        for source in ("n2", "n3"):
            nodes.network.release(source, "n1")
        with pytest.raises(NotLeader):
            await ticket
