"""Which start of each peer may speak: the newest that is known, and nobody who contradicts it (DESIGN section 6).

A node that runs on a copy or an old state of a disk has forgotten votes and acknowledgements. Nothing that it says may
count: so every stream begins with a hello, both ends check it here before anything else is read, and what is known
includes what gossip has kept durably over restarts, and how far the peer's engine was heard to be synced. A vote, an
acknowledgement or support that a ghost would give needs such a stream, so it counts nowhere that more is known.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat, Hello
from ..storage.mark import NOWHERE, Position
from ..storage.numbered import Progress
from .heard import Heard, HeardEngines


class Boot(NamedTuple):
    """One start of a node, and how far its engine had come when it was opened."""

    generation: int
    nonce: int
    opened: Position = NOWHERE


Known: TypeAlias = Callable[[str], tuple[int, int] | None]
"""The newest (generation, nonce) that is known of a node by other ways; None if there is none."""


@dataclass(slots=True)
class Boots:
    """This start of this node, and the newest of each peer: of those that said hello here, or are known otherwise.

    `progress` is that of this node's engine. `known` tells what gossip knows, `heard` how far the peers' engines were
    heard to be. `on_ghost(heard)` must stop the node: an earlier start of it was heard to be further than it is.
    """

    own: Boot
    progress: Progress
    known: Known
    heard: HeardEngines
    on_ghost: Callable[[Heard], object]
    _met: dict[str, Boot] = field(default_factory=dict, init=False)

    def contradiction(self, peer_id: str, boot: Boot) -> str:
        """Why a process that says to be this start of the peer is not believed, as a sentence; empty if it is."""
        for other in (self._met.get(peer_id), self.known(peer_id)):
            if other is None or boot[:2] == other[:2] or boot.generation > other[0]:
                continue
            if boot.generation < other[0]:
                return f"node {peer_id} has been heard of in generation {other[0]}, after {boot.generation}"
            return f"another process of node {peer_id} has been heard of in the same generation, {boot.generation}"
        if self.is_old(peer_id, boot):
            return f"node {peer_id} runs on an old state of its disk: an earlier start was beyond {boot.opened.told}"
        return ""

    def is_old(self, peer_id: str, boot: Boot) -> bool:
        """Whether a start of the peer has opened less of its engine than an earlier one was heard to have."""
        heard = self.heard.of(peer_id)
        return heard is not None and is_behind(boot, heard)

    def meet(self, peer_id: str, boot: Boot) -> None:
        """A process that is believed has said hello."""
        self._met[peer_id] = boot

    def hello(self, hello: Hello, peer_id: str) -> Hello:
        """Complete a hello to a peer: which start this is, and what is known of the peer's."""
        hello.generation, hello.nonce, (hello.engine_id, hello.opened_batch) = self.own
        heard = self.heard.of(peer_id)
        if heard is not None:
            hello.heard.CopyFrom(heard.told())
        return hello

    def is_ghost(self, hello: Hello) -> bool:
        """Whether this very process is the ghost, as a peer's hello tells."""
        return hello.HasField("heard") and is_behind(self.own, Heard.of(hello.heard))

    def give_up(self, hello: Hello) -> None:
        """A hello has told that this process is the ghost: stop the node."""
        self.on_ghost(Heard.of(hello.heard))

    def stamp(self, beat: Beat) -> None:
        """Tell in a beat how far this node's engine is durable."""
        beat.engine_id, beat.synced_batch = self.progress.synced

    def beat_heard(self, peer_id: str, boot: Boot, beat: Beat) -> None:
        """A process that is believed tells how far its engine is durable."""
        self.heard.hear(peer_id, boot.generation, boot.nonce, Position(beat.engine_id, beat.synced_batch))


def is_behind(boot: Boot, heard: Heard) -> bool:
    """Whether a start has opened less than an earlier one was heard to have."""
    return boot.opened < heard.least(boot.generation, boot.nonce)


def boot_of(hello: Hello) -> Boot:
    """Which start of its node a hello comes from."""
    return Boot(hello.generation, hello.nonce, Position(hello.engine_id, hello.opened_batch))
