"""The members that gossip must remember over restarts: the highest generation and nonce of each (DESIGN section 6)."""

from collections.abc import Callable, Coroutine
from typing import Any

from ..gossip.member import Member
from ..gossip.wire import decode_member, encode_member
from .keyspace import node_key
from .storage.engine import Engine, WriteBatch, prefix_end
from .storage.envelope import seal, unseal

MEMBER_PREFIX = node_key("member/")
MEMBERS_PER_SCAN = 4_096


class KnownMembers:
    """Keeps members in the engine. Writing is at once; `spawn` runs the sync that makes it durable soon after."""

    def __init__(self, engine: Engine, spawn: Callable[[str, Coroutine[Any, Any, None]], object]) -> None:
        self._engine = engine
        self._spawn = spawn

    def load(self) -> tuple[Member, ...]:
        """All that were kept. Raises Damaged."""
        rows = self._engine.scan(MEMBER_PREFIX, prefix_end(MEMBER_PREFIX), limit=MEMBERS_PER_SCAN)
        return tuple(decode_member(unseal(sealed)) for _, sealed in rows)

    def keep(self, member: Member) -> None:
        """Keep a member, in place of what was kept under its node id."""
        batch = WriteBatch()
        batch.put(member_key(member.node_id), seal(encode_member(member)))
        self._write(batch)

    def forget(self, node_id: str) -> None:
        batch = WriteBatch()
        batch.delete(member_key(node_id))
        self._write(batch)

    def _write(self, batch: WriteBatch) -> None:
        self._engine.write(batch)
        self._spawn("sync of members", self._engine.sync())


def member_key(node_id: str) -> bytes:
    return MEMBER_PREFIX + node_id.encode()
