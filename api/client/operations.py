"""The operations of a batch, as a program writes them.

Keys, values and index values are bytes, or str for their UTF-8; answers are always bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Text: TypeAlias = bytes | str
Indexes: TypeAlias = Mapping[str, Text | Iterable[Text]]

Consistency: TypeAlias = Literal["linearizable", "stale"]
"""What a read must see: all that was acknowledged before the call, or whatever the nearest replica has."""


@dataclass(frozen=True, slots=True)
class Get:
    """Read a record; its result is a `Record`."""

    key: Text
    consistency: Consistency = "linearizable"


@dataclass(frozen=True, slots=True)
class Set:
    """Replace the value and all index entries of a key; its result is the new version.

    With a `request_id` of its own (and, when it repeats one that was in doubt, the `anchor` of then) the operation
    takes effect at most once by itself; otherwise the id of the batch stands for it.
    """

    key: Text
    value: Text
    indexes: Indexes = field(default_factory=dict)
    request_id: bytes | None = None
    anchor: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key; its result is the version of the removal, 0 if there was nothing."""

    key: Text
    request_id: bytes | None = None
    anchor: int | None = None


Mutation: TypeAlias = Set | Delete
Operation: TypeAlias = Get | Mutation
