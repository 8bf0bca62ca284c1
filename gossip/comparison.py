"""Push-pull in pages: digests go out, what differs comes back, and no page outgrows a message.

All state of a comparison travels in its messages, so the side that answers keeps none. See docs/protocols/gossip.md.
"""

from collections.abc import Mapping
from itertools import islice

from .config import DIGESTS_MAX, FACTS_MAX
from .member import Fact, Member, heard
from .messages import Digest, Sync, SyncAnswer


class Comparison:
    """All that a node knows, in the order of node ids, ready to be compared."""

    def __init__(self, local: Member, facts: Mapping[str, Fact]) -> None:
        self._local = local
        self._facts = dict(sorted({**facts, local.node_id: Fact(local)}.items()))

    def page(self, after: str) -> Sync:
        """The request that compares the next ids beyond `after`."""
        beyond = (fact for node_id, fact in self._facts.items() if node_id > after)
        facts = list(islice(beyond, DIGESTS_MAX + 1))
        digests = tuple(digest_of(fact.member) for fact in facts[:DIGESTS_MAX])
        until = digests[-1].node_id if len(facts) > DIGESTS_MAX else ""
        return Sync(self._local, after, until, digests)

    def answer(self, request: Sync) -> SyncAnswer:
        """What the asker lacks and what it could tell us, up to the id at which the message is full."""
        theirs = {digest.node_id: digest for digest in request.digests}
        newer = [fact for fact in self._within(request) if self._is_newer(fact.member, theirs)]
        covered = newer[FACTS_MAX - 1].member.node_id if len(newer) > FACTS_MAX else request.until
        wanted = tuple(
            digest.node_id
            for digest in request.digests
            if self._is_older(digest) and (not covered or digest.node_id <= covered)
        )
        return SyncAnswer(self._local, tuple(newer[:FACTS_MAX]), wanted, covered)

    def _within(self, request: Sync) -> list[Fact]:
        after, until = request.after, request.until
        return [fact for node_id, fact in self._facts.items() if after < node_id and (not until or node_id <= until)]

    @staticmethod
    def _is_newer(member: Member, theirs: Mapping[str, Digest]) -> bool:
        digest = theirs.get(member.node_id)
        return digest is None or heard(member).rank > digest.rank

    def _is_older(self, digest: Digest) -> bool:
        """Another boot of this very node is always wanted: a conflict, and the digest does not say where it runs."""
        fact = self._facts.get(digest.node_id)
        return fact is None or heard(fact.member).rank < digest.rank or self._is_copy_of_self(digest)

    def _is_copy_of_self(self, digest: Digest) -> bool:
        own = self._local
        return (digest.node_id, digest.generation) == (own.node_id, own.generation) and digest.nonce != own.nonce


def digest_of(member: Member) -> Digest:
    """What stands for the member in a comparison: what its hearer would make of it."""
    known = heard(member)
    return Digest(known.node_id, known.generation, known.nonce, known.incarnation, known.state)
