"""Who may be removed by force: only a node of whose death gossip is sure."""

import pytest
from support.gossip import member

from ringhold.gossip.member import MemberState
from ringhold.node.moving.orders import check_dead
from ringhold.ring.changes import ChangeRefused


@pytest.mark.parametrize("state", [MemberState.DEAD, MemberState.LEFT])
def test_who_has_ended_may_be_removed(state: MemberState) -> None:
    """Its probes were given up, or it has said goodbye."""
    check_dead("node-1", member("node-1", state=state))


def test_who_was_never_heard_of_may_be_removed() -> None:
    """Gossip has forgotten it, or this node was started after its end."""
    check_dead("node-1", None)


def test_who_lives_is_to_be_decommissioned() -> None:
    """Removal by force would give up what only it has."""
    with pytest.raises(ChangeRefused, match="node-1 is alive: decommission it"):
        check_dead("node-1", member("node-1", state=MemberState.ALIVE))


def test_who_is_suspect_only_is_not_given_up_yet() -> None:
    """An operator who has just seen it die is told to repeat the order, not that it lives."""
    with pytest.raises(ChangeRefused, match="node-1 does not answer, but may be alive: repeat this in some seconds"):
        check_dead("node-1", member("node-1", state=MemberState.SUSPECT))
