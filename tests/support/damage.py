"""Damage to what an engine has stored, as a bad disk does it: behind the back of everybody."""

from ringhold.node import keyspace
from ringhold.node.storage.engine import Engine, WriteBatch


def flip(engine: Engine, stored_key: bytes) -> None:
    """Flip a bit in what is stored under a key."""
    stored = engine.get(stored_key)
    assert stored, "there is nothing to damage"
    replace(engine, stored_key, stored[:-1] + bytes([stored[-1] ^ 1]))


def flip_row(engine: Engine, group: int, key: bytes) -> None:
    flip(engine, keyspace.row_key(group, key))


def replace(engine: Engine, stored_key: bytes, value: bytes | None) -> None:
    """Store something else under a key; None: nothing any more."""
    batch = WriteBatch()
    if value is None:
        batch.delete(stored_key)
    else:
        batch.put(stored_key, value)
    engine.write(batch)
