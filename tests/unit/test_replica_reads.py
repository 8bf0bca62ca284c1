"""Reads of replicated groups: at once by a lease, after asking a majority, or stale and with an honest age (P2)."""

import asyncio

import pytest
from support.replicas import propose
from support.rows import set_of
from support.trio import Trio, trio
from support.virtual_time import pass_time, reached, turns, virtual

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node.consensus.groups import GroupsConfig
from ringhold.node.consensus.messages import CONFIRM
from ringhold.node.consensus.tickets import NotLeader, ReadAnswer

NO_LEASES = GroupsConfig(leases=False)


def value_of(answer: ReadAnswer) -> bytes | None:
    (row,) = answer.rows
    return None if row is None else stored.Row.FromString(row).value


async def write(nodes: Trio, value: bytes) -> None:
    leader = nodes[nodes.leader_of(1) or ""].groups
    await propose(leader, 1, set_of(b"k", value), request_id=value)


@virtual
async def test_a_leased_leader_reads_without_a_message() -> None:
    """Confirming costs nothing either; a follower refuses and names the leader."""
    async with trio(1) as nodes:
        await write(nodes, b"v")
        await reached(nodes.settled)
        nodes.network.sent.clear()
        groups = nodes["n1"].groups
        assert value_of(groups.read(1, [b"k"])) == b"v"
        await groups.confirm(1)
        assert nodes.network.sent == []
        with pytest.raises(NotLeader) as caught:
            nodes["n2"].groups.read(1, [b"k"])
        assert (caught.value.leader, caught.value.term) == ("n1", groups.term(1))
        with pytest.raises(NotLeader):
            await nodes["n2"].groups.confirm(1)


@virtual
async def test_without_leases_every_read_asks_a_majority() -> None:
    """One answer is enough; a leader that reaches nobody waits, and does not read."""
    async with trio(1, config=NO_LEASES) as nodes:
        groups = nodes["n1"].groups
        await propose(groups, 1, set_of(b"k", b"v"), request_id=b"1")
        assert not groups.leads(1)
        assert groups.led == []
        with pytest.raises(NotLeader):
            groups.read(1, [b"k"])
        nodes.network.sent.clear()
        nodes.network.hold("n2", "n1")
        await groups.confirm(1)
        assert value_of(groups.read_confirmed(1, [b"k"])) == b"v"
        assert nodes.network.kinds("n1", "n3").count(CONFIRM) == 1
        nodes.network.hold("n3", "n1")
        waiting = asyncio.ensure_future(groups.confirm(1))
        await pass_time(0.3)
        assert not waiting.done()
        nodes.network.release("n2", "n1")
        await waiting


@virtual
async def test_reads_share_a_round_that_began_after_they_came() -> None:
    """Those that come while a round is under way wait for the next one, together (section 6.4)."""
    async with trio(1, config=NO_LEASES) as nodes:
        groups = nodes["n1"].groups
        nodes.network.sent.clear()
        first = asyncio.ensure_future(groups.confirm(1))
        await turns()
        later = [asyncio.ensure_future(groups.confirm(1)) for _ in range(10)]
        await turns()
        await first
        assert not any(each.done() for each in later)
        await asyncio.gather(*later)
        assert nodes.network.kinds("n1", "n2").count(CONFIRM) == 2


@virtual
async def test_a_stale_read_says_how_old_it_may_be_and_a_leased_leader_is_not_behind() -> None:
    """Heartbeats vouch for an idle group, so the age stays within a few of them."""
    async with trio(1) as nodes:
        await write(nodes, b"v")
        await reached(nodes.settled)
        for _ in range(20):
            await pass_time(0.37)
            for name, node in nodes.nodes.items():
                answer = node.groups.read_stale(1, [b"k"])
                assert value_of(answer) == b"v"
                assert answer.behind_ms is not None
                assert (answer.behind_ms == 0) == (name == "n1")
                assert answer.behind_ms <= 1.1 * 3 * 150


@virtual
async def test_without_a_leader_the_age_grows() -> None:
    """By the replica's own clock, with the allowance for its rate."""
    async with trio(1) as nodes:
        await write(nodes, b"v")
        await reached(nodes.settled)
        nodes.network.cut("n3", ["n1", "n2"])
        await pass_time(5)
        early = nodes["n3"].groups.behind_ms(1)
        await pass_time(10)
        late = nodes["n3"].groups.behind_ms(1)
        assert early is not None
        assert late is not None
        assert 5_000 <= early <= 1.1 * 5_500
        assert late - early == pytest.approx(11_000, abs=2)


@virtual
async def test_a_replica_for_which_nobody_has_vouched_does_not_know_its_age() -> None:
    """After a restart it has rows of some time; it says so until a leased leader has spoken."""
    async with trio(1) as nodes:
        await write(nodes, b"v")
        await reached(nodes.settled)
        nodes.crash("n3")
        nodes.network.cut("n3", ["n1", "n2"])
        nodes.restart("n3")
        await pass_time(2)
        assert nodes["n3"].groups.read_stale(1, [b"k"]).behind_ms is None
        nodes.network.heal()
        await reached(lambda: nodes["n3"].groups.behind_ms(1) is not None)


@virtual
async def test_the_age_covers_every_write_that_the_replica_lacks() -> None:
    """What it does not have was acknowledged no longer ago than it says, however its messages are delayed."""
    async with trio(1) as nodes:
        await write(nodes, b"old")
        await reached(nodes.settled)
        nodes.network.hold("n1", "n3")
        await write(nodes, b"new")
        acknowledged = nodes.clock.now()
        for _ in range(30):
            await pass_time(0.1)
            answer = nodes["n3"].groups.read_stale(1, [b"k"])
            assert value_of(answer) == b"old"
            assert answer.behind_ms is None or answer.behind_ms >= (nodes.clock.now() - acknowledged) * 1000
        nodes.network.release("n1", "n3")
        await reached(lambda: value_of(nodes["n3"].groups.read_stale(1, [b"k"])) == b"new")
        await reached(lambda: (nodes["n3"].groups.behind_ms(1) or 9_999) < 500)


@virtual
async def test_a_delayed_message_vouches_for_the_time_when_it_was_sent() -> None:
    """Not for that of its receipt: the leader may have committed more since, or lead no more."""
    async with trio(1) as nodes:
        nodes.network.hold("n1", "n3")
        await write(nodes, b"new")
        await pass_time(2)
        nodes.network.release("n1", "n3")
        nodes.network.cut("n3", ["n1", "n2"])
        await pass_time(0.01)
        answer = nodes["n3"].groups.read_stale(1, [b"k"])
        assert value_of(answer) in (None, b"new")
        assert answer.behind_ms is not None
        assert answer.behind_ms >= 2_000


@virtual
async def test_an_idle_group_is_silent() -> None:
    """Nothing but heartbeats, per pair of nodes, whatever the number of groups; leases hold all the same."""
    async with trio(*range(1, 9)) as nodes:
        await pass_time(2)
        nodes.network.sent.clear()
        before = {name: node.engine.stats().batches_written for name, node in nodes.nodes.items()}
        await pass_time(20)
        assert nodes.network.sent == []
        assert {name: node.engine.stats().batches_written for name, node in nodes.nodes.items()} == before
        assert len(nodes["n1"].groups.led) == 8


@virtual
async def test_a_member_whose_digest_differs_is_asked_where_it_stands() -> None:
    """It has told so by two heartbeats; a group whose digests match is left asleep."""
    async with trio(1, 2) as nodes:
        await pass_time(2)
        nodes.network.hold("n1", "n3")
        await write(nodes, b"v")
        await pass_time(0.2)
        nodes.network.sent.clear()
        await pass_time(1)
        asked = [message for source, target, message in nodes.network.sent if (source, target) == ("n1", "n3")]
        assert asked
        nodes.network.release("n1", "n3")
        await reached(nodes.settled)
        await pass_time(1)
        nodes.network.sent.clear()
        await pass_time(5)
        assert nodes.network.sent == []
