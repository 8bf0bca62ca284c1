"""A leader that loses its office: what it tells those who wait, and what becomes of what it had appended (P3)."""

import asyncio

import pytest
from support.replicas import propose, rows_of
from support.rows import set_of
from support.trio import trio
from support.virtual_time import reached, turns, virtual

from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node.consensus.tickets import Deposed, NotLeader


@virtual
async def test_what_was_appended_is_in_doubt_and_what_was_not_is_refused() -> None:
    """A command that is in no log never will be; of one that is, only the next leader knows what became."""
    async with trio(1) as nodes:
        groups = nodes["n1"].groups
        nodes["n1"].gate.close()
        nodes.network.hold("n1", "n2")
        nodes.network.hold("n1", "n3")
        appended = propose(groups, 1, set_of(b"appended"), request_id=b"1")
        await reached(lambda: nodes["n1"].gate.waiting)
        still_open = propose(groups, 1, set_of(b"open"), request_id=b"2")
        nodes.network.cut("n1", ["n2", "n3"])
        with pytest.raises(Deposed):
            await appended
        with pytest.raises(NotLeader) as caught:
            await still_open
        assert caught.value.leader is None
        assert (groups.commands_waiting, groups.bytes_waiting) == (0, 0)
        with pytest.raises(NotLeader):
            propose(groups, 1, set_of(b"late"), request_id=b"3")
        nodes["n1"].gate.open()
        nodes.network.heal()
        await reached(nodes.settled)
        kept = [set(rows_of(node.engine, 1)) for node in nodes.nodes.values()]
        assert kept in ([set()] * 3, [{b"appended"}] * 3)


@virtual
async def test_a_read_to_be_confirmed_ends_with_the_office() -> None:
    """Without a lease it waits for a majority; if none answers, another node may lead by now."""
    async with trio(1) as nodes:
        groups = nodes["n1"].groups
        nodes.network.cut("n1", ["n2", "n3"])
        await reached(lambda: not groups.leads(1))
        assert groups.is_leader(1)
        with pytest.raises(NotLeader):
            groups.read(1, [b"k"])
        confirming = asyncio.ensure_future(groups.confirm(1))
        await turns()
        assert not confirming.done()
        with pytest.raises(NotLeader):
            await confirming
        assert not groups.is_leader(1)
        with pytest.raises(NotLeader):
            await groups.confirm(1)


@virtual
async def test_no_two_nodes_may_read_at_once() -> None:
    """P2: the lease of the old leader ends before any other one can begin, whoever hears whom."""
    async with trio(1) as nodes:
        nodes.network.cut("n1", ["n2", "n3"])
        terms: dict[int, str] = {}

        def elected() -> bool:
            reading = [name for name, node in nodes.nodes.items() if node.groups.leads(1)]
            assert len(reading) <= 1
            terms.update({nodes[name].groups.term(1): name for name in reading})
            return reading not in ([], ["n1"])

        await reached(elected)
        assert next(iter(terms.values())) == "n1"
        nodes.network.heal()
        await reached(lambda: elected() and nodes.settled())


@virtual
async def test_a_deposed_leaders_own_entries_give_way() -> None:
    """What a minority appended is replaced by what the majority decided; the log and the rows agree again."""
    async with trio(1) as nodes:
        old = nodes["n1"].groups
        await propose(old, 1, set_of(b"k", b"before"), request_id=b"0")
        nodes.network.cut("n1", ["n2", "n3"])
        lost = [propose(old, 1, set_of(b"k", b"lost"), request_id=b"lost:%d" % number) for number in range(3)]
        results = await asyncio.gather(*lost, return_exceptions=True)
        assert all(isinstance(result, Deposed) for result in results)
        await reached(lambda: nodes.leader_of(1))
        await propose(nodes[nodes.leader_of(1) or ""].groups, 1, set_of(b"k", b"after"), request_id=b"1")
        nodes.network.heal()
        await reached(nodes.settled)
        for node in nodes.nodes.values():
            assert rows_of(node.engine, 1)[b"k"].value == b"after"
            assert rows_of(node.engine, 1)[b"k"].version == 2


@virtual
async def test_a_command_in_doubt_is_settled_by_repeating_it_at_the_next_leader() -> None:
    """P3: whether or not the first attempt was committed, the outcome is that of one application."""
    async with trio(1) as nodes:
        old = nodes["n1"].groups
        anchor = old.log_time_ms(1)
        nodes["n1"].gate.close()
        nodes.network.hold("n2", "n1")
        nodes.network.hold("n3", "n1")
        ticket = propose(old, 1, set_of(b"k", b"v"), request_id=b"1", anchor_ms=anchor)
        await reached(lambda: nodes["n3"].gate.asked)
        nodes.crash("n1")
        await reached(lambda: nodes.leader_of(1))
        again = propose(
            nodes[nodes.leader_of(1) or ""].groups, 1, set_of(b"k", b"v"), request_id=b"1", anchor_ms=anchor
        )
        assert stored.Outcome.FromString((await again).outcome).results[0].version == 1
        assert not ticket.done()


@virtual
async def test_listeners_hear_who_leads_and_that_nobody_does() -> None:
    """Each change once, with its term, so that a gateway's routes follow the replicas of its node."""
    async with trio(1) as nodes:
        heard: list[tuple[int, str | None, int]] = []
        nodes["n2"].groups.on_leader(lambda *news: heard.append(news))
        first_term = nodes["n2"].groups.term(1)
        nodes.crash("n1")
        await reached(lambda: nodes.leader_of(1))
        await reached(nodes.settled)
        group, leader, term = heard[-1]
        assert (group, leader) == (1, nodes.leader_of(1))
        assert term > first_term
        assert len(set(heard)) == len(heard)
        assert [news[2] for news in heard] == sorted(news[2] for news in heard)
        assert nodes["n2"].groups.leader(1) == (leader, term)
