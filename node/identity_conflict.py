"""What it means that others know this node's id from another start than this one, in a sentence that says what to do.

Its data folder is then a copy, or an old state. The peers have refused its hellos ever since they knew of the other
start (see `Boots`), so when it comes to this, nothing that it said has counted where that was known.
"""

from ..gossip.member import Member, MemberState
from .peers.boots import Boot
from .peers.heard import Heard

WAY_OUT = (
    "this data directory is an old state of the disk, perhaps a restored backup, and has forgotten what this node has "
    "promised since. Remove its folder 'engine' and start again: then the node is rebuilt from the others"
)


class IdentityTaken(Exception):
    """Another start of this node is known; this one must stop. The message is the sentence to show."""


class CopiedDisk(IdentityTaken):
    """Another process runs with this node's id right now."""


class RestoredDisk(IdentityTaken):
    """The folder is an old state of the disk: the node has run since, and has promised what is forgotten here."""


class GenerationForgotten(IdentityTaken):
    """The same, but the engine was begun anew and has promised nothing: the node may go on, beyond `generation`."""

    def __init__(self, message: str, generation: int) -> None:
        super().__init__(message)
        self.generation = generation


def conflict_between(own: Member, other: Member, *, is_blank: bool) -> IdentityTaken:
    """What `own` has to say of `other`, a member of the same id and another boot that is not older.

    Gossip's word decides: one that is ALIVE at another address runs; two processes can't listen at one. `is_blank`: the
    engine was begun anew after a loss, and no replica is in it yet.
    """
    if other.state is MemberState.ALIVE and other.http_address != own.http_address:
        return CopiedDisk(
            f"another process, at {other.http_address}, runs with this node's identity right now (generation "
            f"{other.generation}, here {own.generation}): its data directory is a copy of this one, or this one of it. "
            "Only one of them may run; for another node, start with an empty folder"
        )
    known = f"the other nodes know generation {other.generation} of this node, and here it is {own.generation}"
    if is_blank:
        return GenerationForgotten(f"{known}: it goes on beyond that, for its engine was begun anew", other.generation)
    return RestoredDisk(f"{known}: {WAY_OUT}")


def conflict_with_heard(own: Boot, heard: Heard, *, is_blank: bool) -> IdentityTaken:
    """What this start has to say when others have heard an earlier one that had synced more than is here.

    `is_blank`: as above; then the engine is to be begun in a later generation than all that they have heard of.
    """
    least = heard.least(own.generation, own.nonce)
    known = f"the other nodes have heard this node at {least.told}, and here its engine was opened at {own.opened.told}"
    if is_blank:
        beyond = max(own.generation, heard.generation, least.generation)
        return GenerationForgotten(f"{known}: it goes on beyond that, for its engine was begun anew", beyond)
    return RestoredDisk(f"{known}: {WAY_OUT}")
