"""A node that is not alone with its identity says which of two things has happened, and what to do."""

from dataclasses import replace

import pytest
from support.gossip import member

from ringhold.gossip.member import Member, MemberState
from ringhold.node.identity_conflict import (
    CopiedDisk,
    GenerationForgotten,
    IdentityTaken,
    RestoredDisk,
    conflict_between,
)

OWN = member("a", generation=4, nonce=1)
ELSEWHERE = replace(OWN, nonce=2, http_address="b.example:50052")


@pytest.mark.parametrize(
    ("other", "is_blank", "kind"),
    [
        (ELSEWHERE, False, CopiedDisk),
        (ELSEWHERE, True, CopiedDisk),
        (replace(ELSEWHERE, generation=9), False, CopiedDisk),
        (replace(ELSEWHERE, state=MemberState.SUSPECT), False, RestoredDisk),
        (replace(ELSEWHERE, state=MemberState.LEFT), True, GenerationForgotten),
        (replace(OWN, generation=9), False, RestoredDisk),
        (replace(OWN, nonce=2), False, RestoredDisk),
        (replace(OWN, generation=9), True, GenerationForgotten),
    ],
)
def test_what_is_known_of_the_other_start_decides(other: Member, is_blank: bool, kind: type[IdentityTaken]) -> None:
    """Alive at another address it runs now; else the disk is old, which only an engine begun anew may get over."""
    assert type(conflict_between(OWN, other, is_blank=is_blank)) is kind


def test_a_copy_is_told_where_the_other_process_runs() -> None:
    """One of the two has to go, and the operator must find both."""
    message = str(conflict_between(OWN, replace(ELSEWHERE, generation=5), is_blank=False))
    assert "another process, at b.example:50052, runs with this node's identity right now" in message
    assert "copy" in message
    assert "(generation 5, here 4)" in message


def test_an_old_disk_is_told_its_age_and_the_way_out() -> None:
    """What the others know, what is here, and which folder to remove."""
    message = str(conflict_between(OWN, replace(OWN, generation=9), is_blank=False))
    assert "the other nodes know generation 9 of this node, and here it is 4" in message
    assert "old state of the disk" in message
    assert "Remove its folder 'engine' and start again" in message


def test_an_engine_begun_anew_knows_beyond_which_generation_to_go_on() -> None:
    """Nothing was promised since, so the identity alone is old."""
    conflict = conflict_between(OWN, replace(OWN, generation=9), is_blank=True)
    assert isinstance(conflict, GenerationForgotten)
    assert conflict.generation == 9
