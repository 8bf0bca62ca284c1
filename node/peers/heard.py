"""How far the engine of each peer was heard to be durable, so that an old state of its disk is told from a restart.

A backup of a data folder that is put back starts as the next generation, as a restart does, but it has forgotten votes
and acknowledgements. What a node has told to be synced no restart ever lacks; a restored backup does (DESIGN section 6,
docs/protocols/peers.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct

from ...api.proto.ringhold.internal.v1.peer_pb2 import HeardEngine
from ..keyspace import node_key
from ..storage.engine import Engine, WriteBatch, prefix_end
from ..storage.envelope import Damaged, seal, unseal
from ..storage.mark import NOWHERE, Position
from ..storage.scanning import scanned

HEARD_PREFIX = node_key("heard/")

HEARD_KEPT_S = 5.0
"""Between two puts of what changed. A crash of the process loses so much of it, and a power loss what no sync followed:
then this node believes a backup that is younger than that; the others, and what they tell it, stand against it."""

_FORM = Struct(">QQQQQQ")


@dataclass(slots=True)
class Heard:
    """Of one node: the newest start that was heard, and how far the engine had come in it, and in all before it."""

    generation: int
    nonce: int
    earlier: Position = NOWHERE
    newest: Position = NOWHERE

    def least(self, generation: int, nonce: int) -> Position:
        """What a start must have found when it opened its engine."""
        if (generation, nonce) == (self.generation, self.nonce):
            return self.earlier
        return max(self.earlier, self.newest)

    def hear(self, generation: int, nonce: int, synced: Position) -> bool:
        """A start says what it has synced; whether that is news. An older start is not heard."""
        if (generation, nonce) != (self.generation, self.nonce):
            if generation <= self.generation:
                return False
            self.earlier = max(self.earlier, self.newest)
            self.generation, self.nonce, self.newest = generation, nonce, synced
            return True
        if synced <= self.newest:
            return False
        self.newest = synced
        return True

    def encode(self) -> bytes:
        """Sealed, as it is kept."""
        return seal(_FORM.pack(self.generation, self.nonce, *self.earlier, *self.newest))

    @staticmethod
    def decode(stored: bytes) -> "Heard":
        """The inverse of `encode`. Raises Damaged."""
        payload = unseal(stored)
        if len(payload) != _FORM.size:
            raise Damaged(f"{len(payload)} bytes of what was heard of a node")
        generation, nonce, *positions = _FORM.unpack(payload)
        return Heard(generation, nonce, Position(*positions[:2]), Position(*positions[2:]))

    def told(self) -> HeardEngine:
        """As a hello says it."""
        return HeardEngine(
            generation=self.generation,
            nonce=self.nonce,
            earlier_engine_id=self.earlier.engine_id,
            earlier_batch=self.earlier.number,
            engine_id=self.newest.engine_id,
            synced_batch=self.newest.number,
        )

    @staticmethod
    def of(told: HeardEngine) -> "Heard":
        """The inverse of `told`."""
        return Heard(
            told.generation,
            told.nonce,
            Position(told.earlier_engine_id, told.earlier_batch),
            Position(told.engine_id, told.synced_batch),
        )


class HeardEngines:
    """What is known of all peers: at once in memory, and by `keep` in this node's own engine. Raises Damaged."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_node = stored_heard(engine)
        self._changed: dict[str, None] = {}

    def of(self, node_id: str) -> Heard | None:
        """None: nothing was heard of it."""
        return self._by_node.get(node_id)

    def hear(self, node_id: str, generation: int, nonce: int, synced: Position) -> None:
        """A start of a node, which is believed, says what it has synced."""
        heard = self._by_node.get(node_id)
        if heard is None:
            self._by_node[node_id] = Heard(generation, nonce, newest=synced)
        elif not heard.hear(generation, nonce, synced):
            return
        self._changed[node_id] = None

    def forget(self, node_ids: Iterable[str]) -> None:
        """These nodes will not be heard of again."""
        for node_id in node_ids:
            if self._by_node.pop(node_id, None) is not None:
                self._changed[node_id] = None

    def keep(self) -> None:
        """Put what changed since the last call; the next sync, whoever makes it, makes it durable."""
        if not self._changed:
            return
        batch = WriteBatch()
        for node_id in self._changed:
            heard = self._by_node.get(node_id)
            if heard is None:
                batch.delete(heard_key(node_id))
            else:
                batch.put(heard_key(node_id), heard.encode())
        self._changed.clear()
        self._engine.write(batch)


def stored_heard(engine: Engine) -> dict[str, Heard]:
    """What an engine has kept, by node. Raises Damaged, EngineFailed."""
    rows = scanned(engine, HEARD_PREFIX, prefix_end(HEARD_PREFIX))
    return {key.removeprefix(HEARD_PREFIX).decode(errors="replace"): Heard.decode(stored) for key, stored in rows}


def heard_key(node_id: str) -> bytes:
    return HEARD_PREFIX + node_id.encode()
