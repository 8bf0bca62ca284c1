"""The record of an engine that was begun anew because that of an earlier life of its node was lost.

While it is there, a replica of which the engine knows nothing may have been here before, and may have promised what is
forgotten now. It stays for as long as the engine does. See docs/storage-format.md.
"""

import json
from dataclasses import asdict, dataclass, fields

from ..keyspace import node_key
from .engine import Engine
from .envelope import Damaged, seal, unseal

REBORN_KEY = node_key("reborn")


@dataclass(frozen=True, slots=True)
class Reborn:
    """What is known of the loss. `reason` is for people, `batches_lost` is None where nobody can count."""

    cluster_id: str
    """The only cluster that the node may return to."""
    generation: int
    """Of the start that began the engine: the log has its time, and what was put aside bears its number."""
    reason: str
    batches_lost: int | None

    def encode(self) -> bytes:
        return seal(json.dumps(asdict(self), sort_keys=True).encode())

    @staticmethod
    def decode(stored: bytes) -> "Reborn":
        """The inverse of `encode`. Raises Damaged."""
        content = json.loads(unseal(stored))
        if not isinstance(content, dict) or content.keys() != {field.name for field in fields(Reborn)}:
            raise Damaged("not the fields of a record of rebirth")
        return Reborn(**content)


def stored_reborn(engine: Engine) -> Reborn | None:
    """None if the engine is the first that its node has had, as far as it knows. Raises Damaged, EngineFailed."""
    stored = engine.get(REBORN_KEY)
    return None if stored is None else Reborn.decode(stored)
