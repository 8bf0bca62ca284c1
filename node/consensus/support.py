"""What nodes promise each other for a while: not to help to depose a leader that they follow (DESIGN section 7).

Support is given per pair of nodes, by heartbeats, whatever the number of groups. F, when it hears a beat of L,
supports L for `SUPPORT_S` from that moment on its own clock. F's next beat names the beat that it has heard; L counts
the support for nine tenths of that from the moment when it *sent* the beat, which was earlier, on its own clock. Clocks
differ in rate by a tenth at most (P7), so what L counts ends before what F has promised.

An *epoch* is a time in which F's support for L was unbroken. F begins a new one when support had lapsed and when the
session for frames with L began or ended. F tells its epoch with each acknowledgement in a group and with each beat: L
counts an acknowledgement only while F's newest beat names the same epoch. So what F acknowledged before a gap, in which
it may have voted for another, counts no more; and what it promised before the gap stands until it lapses.
"""

from dataclasses import dataclass, field
from math import inf

from ...api.proto.ringhold.internal.v1.peer_pb2 import Beat

BEAT_S = 0.15
"""Between two beats. Lower: leases renew sooner, at more messages; it must be well below `SUPPORT_S`."""

SUPPORT_S = 1.0
"""How long support lasts. Raising it delays failover by as much; lowering it lets short pauses cost leases."""

DRIFT_MAX = 0.1
"""By how much the rates of two clocks may differ (P7)."""

COUNTED_S = (1 - DRIFT_MAX) * SUPPORT_S
RESTART_HOLD_S = (1 + DRIFT_MAX) * SUPPORT_S
"""For so long a restarted node may be bound by promises that it has forgotten."""

SENT_KEPT_MAX = 64
EPOCH_BITS = 32


@dataclass(slots=True)
class Given:
    """This node's support for a peer: for which generation of it, until when, in which epoch."""

    epoch: int
    generation: int = 0
    heard: int = 0
    heard_in_session: int = 0
    until: float = -inf
    ended: dict[int, float] = field(default_factory=dict)
    """Earlier epochs, and until when their promises stand."""

    def break_off(self, now: float) -> None:
        """Begin a new epoch; what was promised in this one stands until it lapses."""
        self.ended = {epoch: until for epoch, until in self.ended.items() if until > now}
        if self.until > now:
            self.ended[self.epoch] = self.until
        self.epoch += 1


@dataclass(slots=True)
class Got:
    """A peer's support for this node, as its newest beat tells: the epoch and how long this node may count on it."""

    epoch: int = 0
    until: float = -inf


class Support:
    """All promises of a node, given and got. Times are of this node's clock."""

    def __init__(self, generation: int) -> None:
        self._generation = generation
        self._given: dict[str, Given] = {}
        self._got: dict[str, Got] = {}
        self._sent: dict[str, dict[int, float]] = {}
        self._reluctant: dict[str, None] = {}

    def beat(self, peer: str, now: float) -> Beat:
        """The next beat for a peer; whatever else it carries is added by the caller."""
        sent = self._sent.setdefault(peer, {})
        number = next(reversed(sent), 0) + 1
        sent[number] = now
        if len(sent) > SENT_KEPT_MAX:
            del sent[next(iter(sent))]
        given = self._given_to(peer)
        return Beat(
            generation=self._generation,
            number=number,
            heard=given.heard,
            heard_generation=given.generation,
            epoch=given.epoch,
        )

    def hear(self, peer: str, beat: Beat, now: float) -> bool:
        """Take a beat in. True: the peer lives a new life, and nothing that was promised to the earlier one binds."""
        given = self._given_to(peer)
        if beat.generation < given.generation:
            return False
        is_reborn = beat.generation > given.generation
        if is_reborn:
            given.ended.clear()
            given.until = -inf
            given.generation, given.heard = beat.generation, 0
        if now >= given.until:
            given.break_off(now)
        given.until = now + SUPPORT_S
        if beat.number > given.heard:
            given.heard = given.heard_in_session = beat.number
            self._note_reluctance(peer, beat.reluctant)
        self._count(peer, beat)
        return is_reborn

    def break_off(self, peer: str, now: float) -> None:
        """The session with the peer began or ended: it must hear anew what this node follows."""
        given = self._given_to(peer)
        given.break_off(now)
        given.heard_in_session = 0

    def epoch(self, peer: str) -> int:
        """The epoch under which this node supports the peer, for acknowledgements."""
        return self._given_to(peer).epoch

    def promised_until(self, peer: str, epoch: int) -> float:
        """How long this node is bound by what it acknowledged to the peer under an epoch."""
        given = self._given_to(peer)
        return given.until if epoch == given.epoch else given.ended.get(epoch, -inf)

    def counted_until(self, peer: str, epoch: int) -> float:
        """How long this node may count on what the peer acknowledged under an epoch."""
        got = self._got.get(peer)
        return got.until if got is not None and got.epoch == epoch else -inf

    def is_alive(self, peer: str, now: float) -> bool:
        """Whether the peer was heard within the time of support."""
        return now < self._given_to(peer).until

    def heard_beat(self, peer: str) -> int:
        """The number of the newest beat heard of the peer in this session, that is of this life of it; 0: none."""
        return self._given_to(peer).heard_in_session

    def sent_at(self, peer: str, number: int) -> float | None:
        """When this node sent a beat to the peer; None if that is too long ago."""
        return self._sent.get(peer, {}).get(number)

    def sent_at_heard_by(self, peer: str, beat: Beat) -> float | None:
        """When this node sent the beat that the peer had heard when it sent this one; None if that is not known."""
        return self.sent_at(peer, beat.heard) if beat.heard_generation == self._generation else None

    def is_reluctant(self, peer: str) -> bool:
        """Whether the peer does not want leaderships."""
        return peer in self._reluctant

    def _given_to(self, peer: str) -> Given:
        given = self._given.get(peer)
        if given is None:
            given = self._given[peer] = Given(self._generation << EPOCH_BITS)
        return given

    def _count(self, peer: str, beat: Beat) -> None:
        """Support counts from when the beat was sent that the peer has heard; an older epoch of it counts no more."""
        got = self._got.setdefault(peer, Got())
        if beat.epoch < got.epoch:
            return
        until = -inf
        if beat.heard_generation == self._generation:
            until = self._sent.get(peer, {}).get(beat.heard, -inf) + COUNTED_S
        if beat.epoch > got.epoch:
            got.epoch, got.until = beat.epoch, until
        else:
            got.until = max(got.until, until)

    def _note_reluctance(self, peer: str, reluctant: bool) -> None:
        if reluctant:
            self._reluctant[peer] = None
        else:
            self._reluctant.pop(peer, None)
