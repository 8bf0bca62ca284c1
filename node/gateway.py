"""What a node does for a client, whatever protocol the client speaks: check, route, answer in ringhold.v1 messages.

Deadlines are points on the node's clock. Errors are those of api/errors.py, raised before anything else has happened
where the input is wrong (P9).
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..api.commands import MUTATIONS_PER_COMMAND_MAX, command_id
from ..api.errors import DataLoss, InDoubt, InvalidRequest, KeyNotFound, Overloaded, RingholdError, error_for
from ..api.limits import Limits, too_large
from ..api.proto.ringhold.storage.v1 import records_pb2 as stored
from ..api.proto.ringhold.v1 import kv_pb2
from ..api.status import to_operation_error
from ..ring.hashing import partition_of
from ..ring.topology import Topology, group_of_partition
from .consensus.tickets import Applied
from .machine.records import changed_key
from .router import Router
from .scatter import Scatter, is_stale

REQUEST_ID_BYTES = 16
OPERATIONS_PER_SLICE = 256

FATES: Mapping[int, kv_pb2.Fate] = {
    stored.VERDICT_APPLIED: kv_pb2.FATE_APPLIED,
    stored.VERDICT_ABORTED: kv_pb2.FATE_ABORTED,
    stored.VERDICT_EXPIRED: kv_pb2.FATE_UNKNOWN,
}
"""What the verdict on who resolves a request says of that request."""

Found: TypeAlias = tuple[kv_pb2.Header, Sequence[bytes | None]]
"""What to say of a read, and the rows under its keys."""


class Gateway:
    """Serves every key, wherever it lives."""

    def __init__(
        self,
        router: Router,
        scatter: Scatter,
        topology: Callable[[], Topology],
        limits: Limits,
        rng: random.Random,
    ) -> None:
        self._router = router
        self._scatter = scatter
        self._topology = topology
        self._limits = limits
        self._rng = rng

    async def get(self, request: kv_pb2.GetRequest, deadline: float) -> kv_pb2.GetResponse:
        """The record of a key: the newest, unless it may be stale. Raises KeyNotFound, Unavailable, InvalidRequest."""
        key = request.key
        self._limits.check_key(key)
        read = self._read_stale if is_stale(request.consistency) else self._read_newest
        header, rows = await read(partition_of(key, self._topology().partitions), (key,), deadline)
        return found(key, rows[0], header)

    async def set(self, request: kv_pb2.SetRequest, deadline: float) -> kv_pb2.SetResponse:
        """Replace a record. Raises Unavailable, InDoubt, Overloaded, InvalidRequest."""
        self._check_set(request)
        command = self._command(request.request_id, request.anchor)
        put_set(command.mutations.add().set, request)
        partition, topology, applied, outcome = await self._mutate(request.key, command, deadline)
        header = header_of(partition, topology, applied.log_time_ms)
        return kv_pb2.SetResponse(version=outcome.results[0].version, header=header)

    async def delete(self, request: kv_pb2.DeleteRequest, deadline: float) -> kv_pb2.DeleteResponse:
        """Remove a record, if there is one. Raises as `set` does."""
        self._check_delete(request)
        command = self._command(request.request_id, request.anchor)
        command.mutations.add().delete.key = request.key
        partition, topology, applied, outcome = await self._mutate(request.key, command, deadline)
        result = outcome.results[0]
        header = header_of(partition, topology, applied.log_time_ms)
        return kv_pb2.DeleteResponse(existed=result.existed, version=result.version, header=header)

    async def resolve(self, request: kv_pb2.ResolveRequest, deadline: float) -> kv_pb2.ResolveResponse:
        """What became of a request in the partition of a key, and what it will stay. Raises Unavailable, Overloaded.

        Then the doubt stands, and resolving it may be tried again. Also InvalidRequest.
        """
        self._limits.check_key(request.key)
        self._limits.check_resolvable(request.request_id, request.anchor)
        command = stored.Command(request_id=request.request_id, anchor_ms=request.anchor, resolve=True)
        topology = self._topology()
        partition = partition_of(request.key, topology.partitions)
        applied = await self._router.propose(group_of_partition(partition), command, deadline)
        return resolved(applied, header_of(partition, topology, applied.log_time_ms))

    async def get_by_index(self, request: kv_pb2.GetByIndexRequest, deadline: float) -> kv_pb2.GetByIndexResponse:
        """One page of matches. Raises Incomplete, InvalidRequest."""
        return await self._scatter.page(request, self._topology(), deadline)

    async def batch(self, request: kv_pb2.BatchRequest, deadline: float) -> kv_pb2.BatchResponse:
        """All operations, side by side; mutations of one key keep their order. A failure concerns one operation.

        Raises InvalidRequest if the call as a whole is over a limit.
        """
        limits = self._limits
        if len(request.operations) > limits.batch_operations_max:
            raise InvalidRequest(
                "BATCH_TOO_LARGE",
                f"a batch has at most {limits.batch_operations_max} operations, this one has {len(request.operations)}",
                {"count": str(len(request.operations)), "limit": str(limits.batch_operations_max)},
            )
        if (size := request.ByteSize()) > limits.batch_bytes_max:
            raise too_large("BATCH_TOO_LARGE", "the batch", size, limits.batch_bytes_max)
        limits.check_request_id(request.request_id)
        work = BatchWork(len(request.operations))
        await self._plan(request, work)
        lone, chains = work.commands()
        tasks = [self._batch_reads(*where, items, work, deadline) for where, items in work.reads.items()]
        tasks += [self._batch_chain(chain, work, deadline) for chain in chains]
        tasks += [self._batch_commands(lone, work, deadline)]
        await asyncio.gather(*tasks)
        return work.response

    async def _plan(self, request: kv_pb2.BatchRequest, work: "BatchWork") -> None:
        """Sort the operations by partition; mutations without a request_id of their own share the batch's."""
        shared_id = request.request_id or self._rng.randbytes(REQUEST_ID_BYTES)
        partitions = self._topology().partitions
        for position, operation in enumerate(request.operations):
            if position % OPERATIONS_PER_SLICE == OPERATIONS_PER_SLICE - 1:
                await asyncio.sleep(0)
            try:
                match operation.WhichOneof("kind"):
                    case "get":
                        read, key = operation.get, operation.get.key
                        self._limits.check_key(key)
                        where = partition_of(key, partitions), is_stale(read.consistency)
                        work.reads.setdefault(where, []).append((position, key))
                    case "set":
                        change = operation.set
                        share = work.share(partition_of(change.key, partitions), change, shared_id)
                        self._check_set(change)
                        put_set(share.add(position).set, change)
                    case "delete":
                        removal = operation.delete
                        share = work.share(partition_of(removal.key, partitions), removal, shared_id)
                        self._check_delete(removal)
                        share.add(position).delete.key = removal.key
                    case _:
                        raise InvalidRequest("BATCH_OPERATION_EMPTY", f"operation {position} of the batch is empty")
            except RingholdError as error:
                work.fail((position,), error)

    async def _batch_reads(
        self, partition: int, stale: bool, items: list[tuple[int, bytes]], work: "BatchWork", deadline: float
    ) -> None:
        try:
            read = self._read_stale if stale else self._read_newest
            header, rows = await read(partition, [key for _, key in items], deadline)
        except RingholdError as error:
            if len(items) > 1 and isinstance(error, DataLoss) and "records" in error.details:
                await self._batch_reads_apart(partition, stale, items, work, deadline)
                return
            work.fail((position for position, _ in items), error)
            return
        for (position, key), row in zip(items, rows, strict=True):
            try:
                work.claim(len(row or b""), self._limits.batch_bytes_max)
                work.results[position].get.CopyFrom(found(key, row, header))
            except (KeyNotFound, InvalidRequest) as error:
                work.fail((position,), error)

    async def _batch_reads_apart(
        self, partition: int, stale: bool, items: list[tuple[int, bytes]], work: "BatchWork", deadline: float
    ) -> None:
        """A record of these is lost, and must not take the others with it: each half is read alone."""
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            await self._batch_reads(partition, stale, half, work, deadline)

    async def _read_newest(self, partition: int, keys: Sequence[bytes], deadline: float) -> Found:
        topology = self._topology()
        answer = await self._router.read(group_of_partition(partition), keys, deadline)
        return header_of(partition, topology, answer.log_time_ms), answer.rows

    async def _read_stale(self, partition: int, keys: Sequence[bytes], deadline: float) -> Found:
        topology = self._topology()
        answer = await self._router.read_stale(group_of_partition(partition), keys, deadline)
        return stale_header_of(partition, topology, answer.behind_ms), answer.rows

    async def _batch_chain(self, chain: Sequence["Share"], work: "BatchWork", deadline: float) -> None:
        """Commands that change the same keys, one after the other."""
        for share in chain:
            await self._batch_commands((share,), work, deadline)

    async def _batch_commands(self, shares: Sequence["Share"], work: "BatchWork", deadline: float) -> None:
        """Commands that don't wait for each other."""
        topology = self._topology()
        commands = [(group_of_partition(share.partition), self._command_of(share)) for share in shares]
        outcomes = await self._router.propose_many(commands, deadline)
        for share, outcome in zip(shares, outcomes, strict=True):
            put_outcome(share, outcome, topology, work)

    def _command_of(self, share: "Share") -> stored.Command:
        command = share.command
        command.request_id, command.anchor_ms = share.request_id, share.anchor
        return command

    async def _mutate(
        self, key: bytes, command: stored.Command, deadline: float
    ) -> tuple[int, Topology, Applied, stored.Outcome]:
        topology = self._topology()
        partition = partition_of(key, topology.partitions)
        applied = await self._router.propose(group_of_partition(partition), command, deadline)
        return partition, topology, applied, accepted(applied)

    def _command(self, request_id: bytes, anchor: int) -> stored.Command:
        return stored.Command(request_id=request_id or self._rng.randbytes(REQUEST_ID_BYTES), anchor_ms=anchor)

    def _check_set(self, request: kv_pb2.SetRequest) -> None:
        limits = self._limits
        limits.check_key(request.key)
        limits.check_value(request.value)
        limits.check_request_id(request.request_id)
        if request.indexes:
            limits.check_indexes((entry.name, entry.value) for entry in request.indexes)

    def _check_delete(self, request: kv_pb2.DeleteRequest) -> None:
        self._limits.check_key(request.key)
        self._limits.check_request_id(request.request_id)


@dataclass(slots=True)
class Share:
    """The mutations of a batch that are one command; `request_id` is the command's, and `places` counts up to its end.

    Mutations that are too many for one command go on in the next one.
    """

    partition: int
    request_id: bytes
    anchor: int
    places: int
    positions: list[int] = field(default_factory=list)
    command: stored.Command = field(default_factory=stored.Command)

    def add(self, position: int) -> stored.Mutation:
        """One more mutation, to be filled, for the operation at `position`."""
        self.positions.append(position)
        return self.command.mutations.add()


class BatchWork:
    """A batch sorted by where it goes, and its results by position."""

    def __init__(self, operations: int) -> None:
        self.response = kv_pb2.BatchResponse()
        self.results = [self.response.results.add() for _ in range(operations)]
        self.reads: dict[tuple[int, bool], list[tuple[int, bytes]]] = {}
        self.answer_bytes = 0
        self.shares: list[Share] = []
        self._open: dict[tuple[int, bytes], Share] = {}

    def share(self, partition: int, request: kv_pb2.SetRequest | kv_pb2.DeleteRequest, shared_id: bytes) -> Share:
        """The command that a mutation belongs to; the first anchor given is the command's.

        One that is refused has its place in it too: a client, which may hear nothing of the refusal, counts all.
        """
        key = (partition, request.request_id or shared_id)
        share = self._open.get(key)
        places = share.places if share else 0
        if share is None or places % MUTATIONS_PER_COMMAND_MAX == 0:
            share = self._open[key] = Share(partition, command_id(key[1], places), request.anchor, places)
            self.shares.append(share)
        share.places += 1
        share.anchor = share.anchor or request.anchor
        return share

    def commands(self) -> tuple[list[Share], list[list[Share]]]:
        """The commands: those that may go at once, and chains of those that have a key of a partition in common.

        A chain goes in order, so that a repetition of its first can't overtake the second. Mutations of one key under
        alternating request_ids are ordered by the first of each.
        """
        by_partition: dict[int, list[Share]] = {}
        for share in filter(lambda share: share.positions, self.shares):
            by_partition.setdefault(share.partition, []).append(share)
        lone: list[Share] = []
        chains: list[list[Share]] = []
        for shares in by_partition.values():
            if overlap(shares):
                chains.append(shares)
            else:
                lone += shares
        return lone, chains

    def claim(self, size: int, bytes_max: int) -> None:
        """Room for a record in the answer. Raises InvalidRequest if there is none left."""
        if self.answer_bytes + size > bytes_max:
            raise too_large("ANSWER_TOO_LARGE", "the answer to this batch", self.answer_bytes + size, bytes_max)
        self.answer_bytes += size

    def fail(self, positions: Iterable[int], error: RingholdError) -> None:
        for position in positions:
            self.results[position].error.CopyFrom(to_operation_error(error))


def overlap(shares: Sequence[Share]) -> bool:
    """Whether two of these commands change the same key."""
    if len(shares) == 1:
        return False
    seen: set[bytes] = set()
    for share in shares:
        keys = {changed_key(mutation) for mutation in share.command.mutations}
        if seen & keys:
            return True
        seen |= keys
    return False


def header_of(partition: int, topology: Topology, log_time_ms: int) -> kv_pb2.Header:
    return kv_pb2.Header(partition=partition, topology_epoch=topology.epoch, log_time_ms=log_time_ms)


def stale_header_of(partition: int, topology: Topology, behind_ms: int | None) -> kv_pb2.Header:
    return kv_pb2.Header(partition=partition, topology_epoch=topology.epoch, stale=True, behind_ms=behind_ms)


def found(key: bytes, row: bytes | None, header: kv_pb2.Header) -> kv_pb2.GetResponse:
    """The answer to a read. Raises KeyNotFound if there is no row."""
    if row is None:
        raise not_found(header)
    record = stored.Row.FromString(row)
    return kv_pb2.GetResponse(
        value=record.value,
        version=record.version,
        create_version=record.create_version,
        indexes=index_entries(record),
        header=header,
    )


def not_found(header: kv_pb2.Header) -> KeyNotFound:
    """The error says as much as the header of an answer would."""
    details = {"partition": str(header.partition)}
    if not header.stale:
        details["log_time_ms"] = str(header.log_time_ms)
        return KeyNotFound("KEY_NOT_FOUND", "there is no record under this key", details)
    details["stale"] = "true"
    if header.HasField("behind_ms"):
        details["behind_ms"] = str(header.behind_ms)
    return KeyNotFound("KEY_NOT_FOUND", "the replica that was read has no record under this key", details)


def index_entries(record: stored.Row) -> list[kv_pb2.IndexEntry]:
    return [kv_pb2.IndexEntry(name=entry.name, value=entry.value) for entry in record.indexes]


def put_set(mutation: stored.Set, request: kv_pb2.SetRequest) -> None:
    """Fill a mutation in its place: a copy would cost as much again."""
    mutation.key, mutation.value = request.key, request.value
    for entry in request.indexes:
        mutation.indexes.add(name=entry.name, value=entry.value)


def accepted(applied: Applied) -> stored.Outcome:
    """The outcome of a command that took effect. Raises the error that any other verdict stands for."""
    outcome = stored.Outcome.FromString(applied.outcome)
    if outcome.verdict == stored.VERDICT_APPLIED:
        return outcome
    details = {"log_time_ms": str(applied.log_time_ms)}
    match outcome.verdict:
        case stored.VERDICT_EXPIRED:
            raise error_for("REQUEST_EXPIRED", "the anchor is older than the window of recognition", details)
        case stored.VERDICT_REUSED:
            raise error_for("REQUEST_ID_REUSED", "this request_id was used before with another payload", details)
        case stored.VERDICT_ABORTED:
            message = "this request was resolved before it was applied, and so never will be; a new one needs a new id"
            raise error_for("REQUEST_ABORTED", message, details)
        case stored.VERDICT_DEDUPE_FULL:
            raise dedupe_full(details)
    raise AssertionError(f"a verdict that no state machine gives: {outcome.verdict}")


def dedupe_full(details: Mapping[str, str]) -> Overloaded:
    message = "the partition's table of recent requests is full"
    return Overloaded("DEDUPE_FULL", message, {**details, "retry_after_ms": "1000"})


def resolved(applied: Applied, header: kv_pb2.Header) -> kv_pb2.ResolveResponse:
    """What the log says of a request. Raises Overloaded if there was no room to say that it is aborted."""
    outcome = stored.Outcome.FromString(applied.outcome)
    if outcome.verdict == stored.VERDICT_DEDUPE_FULL:
        raise dedupe_full({"log_time_ms": str(applied.log_time_ms)})
    results = [kv_pb2.MutationOutcome(version=each.version, existed=each.existed) for each in outcome.results]
    return kv_pb2.ResolveResponse(fate=FATES[outcome.verdict], outcomes=results, header=header)


def put_outcome(share: Share, applied: Applied | RingholdError, topology: Topology, work: BatchWork) -> None:
    """Fill the results of a command's mutations."""
    mutations = share.command.mutations
    try:
        if isinstance(applied, RingholdError):
            raise applied
        outcome = accepted(applied)
    except InDoubt as doubt:
        for position, mutation in zip(share.positions, mutations, strict=True):
            work.fail((position,), doubt.about(changed_key(mutation)))
        return
    except RingholdError as error:
        work.fail(share.positions, error)
        return
    header = header_of(share.partition, topology, applied.log_time_ms)
    for position, mutation, result in zip(share.positions, mutations, outcome.results, strict=True):
        put_result(work.results[position], mutation, result, header)


def put_result(
    target: kv_pb2.OperationResult, mutation: stored.Mutation, result: stored.MutationResult, header: kv_pb2.Header
) -> None:
    """Fill the result of a mutation in its place."""
    if mutation.HasField("set"):
        written = target.set
        written.version = result.version
        written.header.CopyFrom(header)
        return
    removed = target.delete
    removed.existed, removed.version = result.existed, result.version
    removed.header.CopyFrom(header)
