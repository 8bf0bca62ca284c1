"""The limits of requests, and the checks that enforce them before anything else happens (DESIGN section 10)."""

from collections.abc import Iterable
from dataclasses import dataclass

from .commands import COMMAND_NUMBER_BYTES_MAX
from .errors import InvalidRequest

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest accepted sizes. Raising one raises the memory of a request and the time its commit holds the group."""

    key_bytes_max: int = 4 * KIB
    value_bytes_max: int = 1 * MIB
    index_entries_max: int = 32
    index_name_bytes_max: int = 128
    index_value_bytes_max: int = 1 * KIB
    request_id_bytes_max: int = 64
    batch_operations_max: int = 1_000
    batch_bytes_max: int = 3 * MIB
    page_items_max: int = 1_000
    page_bytes_max: int = 3 * MIB
    message_bytes_max: int = 4 * MIB
    requests_in_flight_max: int = 4_096
    deadline_default_s: float = 10.0
    deadline_max_s: float = 60.0
    metadata_bytes_max: int = 64 * KIB
    streams_per_connection_max: int = 256

    def check_key(self, key: bytes) -> None:
        if not key:
            raise InvalidRequest("KEY_EMPTY", "the key is empty")
        if len(key) > self.key_bytes_max:
            raise too_large("KEY_TOO_LARGE", "the key", len(key), self.key_bytes_max)

    def check_value(self, value: bytes) -> None:
        if len(value) > self.value_bytes_max:
            raise too_large("VALUE_TOO_LARGE", "the value", len(value), self.value_bytes_max)

    def check_request_id(self, request_id: bytes) -> None:
        if len(request_id) > self.request_id_bytes_max:
            raise too_large("REQUEST_ID_TOO_LARGE", "the request_id", len(request_id), self.request_id_bytes_max)

    def check_resolvable(self, request_id: bytes, anchor: int) -> None:
        """Whether these may name a command: its id may be longer than a program's, see api/commands.py."""
        if not request_id:
            raise InvalidRequest("REQUEST_ID_EMPTY", "the request_id of the mutation to resolve is missing")
        limit = self.request_id_bytes_max + COMMAND_NUMBER_BYTES_MAX
        if len(request_id) > limit:
            raise too_large("REQUEST_ID_TOO_LARGE", "the request_id", len(request_id), limit)
        if not anchor:
            raise InvalidRequest("ANCHOR_INVALID", "the anchor of the mutation to resolve is missing")

    def check_index_name(self, name: str) -> None:
        size = len(name.encode())
        if not 0 < size <= self.index_name_bytes_max:
            raise InvalidRequest(
                "INDEX_NAME_INVALID",
                f"an index name has 1 to {self.index_name_bytes_max} bytes, this one has {size}",
                {"size": str(size), "limit": str(self.index_name_bytes_max)},
            )

    def check_index_value(self, value: bytes) -> None:
        if len(value) > self.index_value_bytes_max:
            raise too_large("INDEX_VALUE_TOO_LARGE", "an index value", len(value), self.index_value_bytes_max)

    def check_indexes(self, entries: Iterable[tuple[str, bytes]]) -> None:
        seen: set[tuple[str, bytes]] = set()
        for name, value in entries:
            if len(seen) == self.index_entries_max:
                raise InvalidRequest(
                    "TOO_MANY_INDEX_ENTRIES",
                    f"a record has at most {self.index_entries_max} index entries, this one has more",
                    {"limit": str(self.index_entries_max)},
                )
            self.check_index_name(name)
            self.check_index_value(value)
            if (name, value) in seen:
                raise InvalidRequest("DUPLICATE_INDEX_ENTRY", f"the index entry {name}={value!r} is given twice")
            seen.add((name, value))


def too_large(reason: str, what: str, size: int, limit: int) -> InvalidRequest:
    """The error of something over its limit in bytes."""
    message = f"{what} has {size} bytes, at most {limit} are allowed"
    return InvalidRequest(reason, message, {"size": str(size), "limit": str(limit)})
