"""One member more or less, on a leader's word: what it appends, what it refuses, what a former member is told."""

import pytest
from support.trio import Trio, trio
from support.virtual_time import pass_time, reached, virtual

from ringhold.node.consensus.configuration import Configuration
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.reconfiguring import NotNow


def leading(nodes: Trio) -> Groups:
    return nodes[nodes.leader_of(1) or ""].groups


def configuration(nodes: Trio) -> tuple[int, Configuration]:
    (led,) = (led for led in leading(nodes).reconfiguring.led() if led.group == 1)
    return led.configuration_index, led.configuration


@virtual
async def test_a_member_is_removed_buried_and_added_again_under_another_id() -> None:
    """It drops what it has once that is committed, and comes back as a learner that its leader lets vote."""
    async with trio(1) as nodes:
        await reached(nodes.settled)
        leader = nodes.leader_of(1)
        other = next(name for name in ("n1", "n2", "n3") if name != leader)
        index, before = configuration(nodes)
        leading(nodes).reconfiguring.remove(1, other, index)
        await reached(lambda: not nodes[other].groups.hosts(1))
        assert leading(nodes).reconfiguring.removal_of(1, other, before.numbers[other]) > index
        await pass_time(0.5)
        index, smaller = configuration(nodes)
        assert other not in smaller.members
        leading(nodes).reconfiguring.add(1, other, index)
        await reached(lambda: other in configuration(nodes)[1].voting_nodes)
        number = configuration(nodes)[1].numbers[other]
        assert number > index
        assert leading(nodes).reconfiguring.removal_of(1, other, number) == 0
        assert leading(nodes).reconfiguring.removal_of(1, other, before.numbers[other]) > 0


@virtual
async def test_a_leader_that_is_to_go_hands_over_first() -> None:
    """Nothing is appended by who would be removed by it; the next leader does it, and nobody waits for an election."""
    async with trio(1) as nodes:
        await reached(nodes.settled)
        first = nodes.leader_of(1) or ""
        index, _ = configuration(nodes)
        with pytest.raises(NotNow, match="hands over"):
            nodes[first].groups.reconfiguring.remove(1, first, index)
        await reached(lambda: nodes.leader_of(1) not in {first, None})


@virtual
async def test_what_was_decided_on_another_configuration_is_refused() -> None:
    """Two movers that saw the same can't both act (DESIGN 8.2)."""
    async with trio(1) as nodes:
        await reached(nodes.settled)
        leader = nodes.leader_of(1) or ""
        one, other = (name for name in ("n1", "n2", "n3") if name != leader)
        index, _ = configuration(nodes)
        reconfiguring = nodes[leader].groups.reconfiguring
        reconfiguring.remove(1, one, index)
        with pytest.raises(NotNow, match="another one by now"):
            reconfiguring.remove(1, other, index)
        with pytest.raises(NotNow, match="does not lead"):
            nodes[other].groups.reconfiguring.remove(1, one, index)
        with pytest.raises(NotNow, match="does not lead"):
            reconfiguring.add(99, one, index)


@virtual
async def test_no_voter_goes_unless_a_majority_of_the_others_is_there() -> None:
    """With one of three away, the removal of another one would stop the group; that of the absent one does not."""
    async with trio(1) as nodes:
        await reached(nodes.settled)
        leader = nodes.leader_of(1) or ""
        away, other = (name for name in ("n1", "n2", "n3") if name != leader)
        nodes.crash(away)
        await pass_time(2)
        leader = nodes.leader_of(1) or ""
        index, _ = configuration(nodes)
        reconfiguring = nodes[leader].groups.reconfiguring
        (led,) = (led for led in reconfiguring.led() if led.group == 1)
        assert away in led.dispensable
        assert other not in led.dispensable
        with pytest.raises(NotNow, match="majority"):
            reconfiguring.remove(1, other, index)
        reconfiguring.remove(1, away, index)
        await reached(lambda: away not in configuration(nodes)[1].members)


@virtual
async def test_who_is_no_member_can_be_neither_removed_nor_added_twice() -> None:
    """Orders that make no sense are refused, and change nothing."""
    async with trio(1) as nodes:
        await reached(nodes.settled)
        index, before = configuration(nodes)
        reconfiguring = leading(nodes).reconfiguring
        with pytest.raises(NotNow, match="no member"):
            reconfiguring.remove(1, "n9", index)
        with pytest.raises(NotNow, match="member already"):
            reconfiguring.add(1, "n2", index)
        assert configuration(nodes) == (index, before)
