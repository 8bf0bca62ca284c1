"""Bugs to plant in how a request in doubt is resolved."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import VERDICT_ABORTED, VERDICT_EXPIRED, Command, Outcome
from ringhold.node import router, service
from ringhold.node.consensus.groups import Groups
from ringhold.node.consensus.tickets import Applied
from ringhold.node.keyspace import dedupe_key
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS, MINUTE_MS
from ringhold.node.storage.envelope import unseal

from .patches import patched


@contextmanager
def resolve_answers_without_logging() -> Iterator[None]:
    """A leader answers from its applied table, and says ABORTED of what is not there: it may be in the log by then."""

    def make(original: Any) -> Any:
        def append(groups: Groups, group: int, command: Command, encoded: bytes) -> "asyncio.Future[Applied]":
            if not command.resolve:
                future: asyncio.Future[Applied] = original(groups, group, command, encoded)
                return future
            return answered(groups, group, command)

        return append

    with patched(router, "append", make), patched(service, "append", make):
        yield


def answered(groups: Groups, group: int, command: Command) -> "asyncio.Future[Applied]":
    """What the applied table says of a command, by a node that leads."""
    if not groups.is_leader(group):
        raise groups._not_leader(group)
    log_time_ms = groups.log_time_ms(group)
    stored = groups._engine.get(dedupe_key(group, command.anchor_ms // MINUTE_MS, command.request_id))
    is_old = command.anchor_ms < log_time_ms - DEDUPE_WINDOW_MS
    missing = Outcome(verdict=VERDICT_EXPIRED if is_old else VERDICT_ABORTED)
    answer: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
    outcome = missing.SerializeToString() if stored is None else unseal(stored)
    answer.set_result(Applied(outcome, groups.term(group), log_time_ms))
    return answer


RESOLVE: Sequence[Callable[[], AbstractContextManager[None]]] = (resolve_answers_without_logging,)
