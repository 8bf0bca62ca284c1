"""The attempt policy under any failures in any order: what holds for every call of the client."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ringhold.api.client.calls import Answered, Call, Fail, Failed, Finish, Send, Sleep, Slept
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.core import Core
from ringhold.api.client.operations import Delete, Get, Set
from ringhold.api.client.orders import DecommissionNode
from ringhold.api.errors import REASONS, InDoubt, RingholdError, Unavailable, error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ringhold.api.status import to_operation_error
from ringhold.ring.hashing import partition_of

PARTITIONS = 4
MUTATIONS = (kv_pb2.SetRequest, kv_pb2.DeleteRequest)
TOPOLOGY = cluster_pb2.TopologyResponse(
    cluster_id="c",
    epoch=1,
    nodes=[cluster_pb2.Node(id=n, name=n, grpc_address=f"{n}:1", state=cluster_pb2.NODE_STATE_NORMAL) for n in "abc"],
    partitions=[cluster_pb2.Partition(leader=p % 3, log_time_ms=1_000 * (p % 2)) for p in range(PARTITIONS)],
)


@st.composite
def failures(draw: st.DrawFn) -> RingholdError:
    reason = draw(st.sampled_from(sorted(REASONS)))
    details = draw(
        st.sampled_from(
            [{}, {"log_time_ms": "400000"}, {"log_time_ms": "-"}, {"retry_after_ms": "50"}, {"retry_after_ms": "1e9"}]
        )
    )
    return error_for(reason, "drawn", details)


attempts = st.tuples(st.none() | failures(), st.floats(0, 1))
"""How an attempt ends (None: with success), after which part of the time that it may take."""


class Run:
    """One call driven to its end: what was sent when, how each attempt ended, and the last effect."""

    def __init__(self, call: Any, script: list[tuple[RingholdError | None, float]]) -> None:
        self.sent: list[tuple[Send, RingholdError | None]] = []
        self.now = 100.0
        steps = iter(script)
        effect = call.start(self.now)
        while isinstance(effect, Send | Sleep):
            if isinstance(effect, Sleep):
                self.now += effect.seconds
                effect = call.handle(Slept(), self.now)
                continue
            error, part = next(steps, (error_for("NO_ANSWER", "the script is over"), 1.0))
            self.now += effect.timeout_s * part
            # Requests are signed in place: note what was sent as it was then.
            copy = type(effect.request).FromString(effect.request.SerializeToString())
            self.sent.append((Send(effect.address, copy, effect.timeout_s), error))
            effect = call.handle(self.answer(effect.request, error), self.now)
        self.end = effect

    def answer(self, request: Any, error: RingholdError | None) -> Answered | Failed:
        return Failed(error) if error else Answered(success(request))

    def mutations(self) -> list[tuple[Any, RingholdError | None]]:
        return [(send.request, error) for send, error in self.sent if isinstance(send.request, MUTATIONS)]


class BatchRun(Run):
    """Failures hit a part of the operations, or the call as a whole."""

    def answer(self, request: Any, error: RingholdError | None) -> Answered | Failed:
        if error is None or not isinstance(request, kv_pb2.BatchRequest) or error.reason.startswith("N"):
            return super().answer(request, error)
        results = list(success(request).results)
        results[::2] = [kv_pb2.OperationResult(error=to_operation_error(error))] * len(results[::2])
        return Answered(kv_pb2.BatchResponse(results=results))


def success(request: Any) -> Any:
    header = kv_pb2.Header(partition=0, log_time_ms=2_000)
    match request:
        case cluster_pb2.TopologyRequest():
            return TOPOLOGY
        case kv_pb2.GetRequest():
            return kv_pb2.GetResponse(header=header)
        case kv_pb2.SetRequest():
            return kv_pb2.SetResponse(version=1, header=header)
        case kv_pb2.DeleteRequest():
            return kv_pb2.DeleteResponse(existed=True, version=1, header=header)
        case kv_pb2.ResolveRequest():
            return kv_pb2.ResolveResponse(fate=kv_pb2.FATE_ABORTED, header=header)
        case cluster_pb2.StatusRequest():
            return cluster_pb2.StatusResponse()
        case cluster_pb2.ChangeRequest():
            return cluster_pb2.ChangeResponse()
    kinds = [operation.WhichOneof("kind") for operation in request.operations]
    asked = [getattr(op, str(kind)) for op, kind in zip(request.operations, kinds, strict=True)]
    return kv_pb2.BatchResponse(
        results=[kv_pb2.OperationResult(**{str(kind): success(one)}) for kind, one in zip(kinds, asked, strict=True)]
    )


def new_core(seed: int) -> Core:
    return Core(["a:1", "b:1"], 10.0, ClientConfig(), random.Random(seed))


keys = st.sampled_from([b"k%d" % number for number in range(8)])
deadlines = st.floats(0, 20)
scripts = st.lists(attempts, max_size=30)


@given(key=keys, timeout_s=deadlines, script=scripts, seed=st.integers(0, 9))
def test_a_mutation_is_repeated_with_one_id_and_after_doubt_with_one_anchor(
    key: bytes, timeout_s: float, script: list[Any], seed: int
) -> None:
    """No attempt has another request_id; once one may have reached a leader, none has another anchor."""
    run = Run(new_core(seed).set(key, "v", None, None, None, timeout_s), script)
    sent = run.mutations()
    assert len({request.request_id for request, _ in sent}) <= 1
    assert len({request.anchor for request, _ in sent}) <= 2, "an expired anchor is replaced once"
    doubtful = [at for at, (_, error) in enumerate(sent) if isinstance(error, InDoubt)]
    if doubtful:
        after = {request.anchor for request, _ in sent[doubtful[0] :]}
        assert len(after) == 1
    assert all(request.anchor for request, _ in sent), (
        "without an anchor an attempt could neither be repeated nor resolved"
    )
    if isinstance(run.end, Fail) and isinstance(run.end.error, InDoubt):
        request = sent[-1][0]
        doubt = run.end.error
        assert (doubt.request_id, doubt.anchor, doubt.key) == (request.request_id, request.anchor, key)


@given(key=keys, timeout_s=deadlines, script=scripts, seed=st.integers(0, 9))
def test_doubt_never_becomes_a_promise(key: bytes, timeout_s: float, script: list[Any], seed: int) -> None:
    """After an ambiguous attempt the end is a result, a logged refusal or InDoubt; without one it is not InDoubt."""
    run = Run(new_core(seed).delete(key, None, None, timeout_s), script)
    was_ambiguous = any(isinstance(error, InDoubt) for _, error in run.mutations())
    if isinstance(run.end, Fail):
        logged = {"VERSION_MISMATCH", "KEY_NOT_FOUND", "REQUEST_ID_REUSED", "REQUEST_ABORTED"}
        assert isinstance(run.end.error, InDoubt) == (was_ambiguous and run.end.error.reason not in logged)
    if isinstance(run.end, Fail) and isinstance(run.end.error, Unavailable):
        assert not was_ambiguous


@given(key=keys, timeout_s=deadlines, script=scripts, seed=st.integers(0, 9))
def test_a_call_ends_within_its_deadline(key: bytes, timeout_s: float, script: list[Any], seed: int) -> None:
    """Attempts and pauses together never take longer, and no attempt is longer than its own limit."""
    core = new_core(seed)
    calls: list[Call[Any]] = [core.get(key, timeout_s), core.set(key, b"", None, None, None, timeout_s)]
    for call in (*calls, core.resolve(None, b"id", 1, key, timeout_s), core.status(timeout_s)):
        run = Run(call, script)
        assert run.now <= 100.0 + timeout_s + 1e-6
        assert all(send.timeout_s <= ClientConfig().bulk_attempt_timeout_s for send, _ in run.sent)


@given(key=keys, script=scripts, seed=st.integers(0, 9))
def test_who_reads_or_resolves_is_never_in_doubt(key: bytes, script: list[Any], seed: int) -> None:
    """A read has no effect that could be unknown, and to resolve a request twice is to do so once."""
    core = new_core(seed)
    for call in (core.get(key, 10.0), core.resolve(None, b"id", 1, key, 10.0)):
        run = Run(call, script)
        assert not (isinstance(run.end, Fail) and isinstance(run.end.error, InDoubt))


@given(timeout_s=deadlines, script=scripts, seed=st.integers(0, 9))
def test_the_doubt_of_a_change_never_becomes_a_promise(timeout_s: float, script: list[Any], seed: int) -> None:
    """After an attempt that may have been taken the end is a result or InDoubt; without one, and of a plan, never."""
    for dry_run in (False, True):
        run = Run(new_core(seed).change([DecommissionNode("a")], dry_run, timeout_s), script)
        outcomes = [error for send, error in run.sent if isinstance(send.request, cluster_pb2.ChangeRequest)]
        was_ambiguous = not dry_run and any(isinstance(error, InDoubt) for error in outcomes)
        assert run.now <= 100.0 + timeout_s + 1e-6
        if isinstance(run.end, Fail):
            assert isinstance(run.end.error, InDoubt) == was_ambiguous


operations = st.lists(
    st.one_of(
        st.builds(Get, keys),
        st.builds(Set, keys, st.just(b"v"), request_id=st.sampled_from([None, b"own"])),
        st.builds(Delete, keys),
    ),
    max_size=12,
)


@given(operations=operations, timeout_s=deadlines, script=scripts, seed=st.integers(0, 9))
def test_a_batch_repeats_commands_whole_and_ends_in_time(
    operations: list[Any], timeout_s: float, script: list[Any], seed: int
) -> None:
    """A partition's mutations go together with one anchor unless it expired; every operation has one outcome."""
    run = BatchRun(new_core(seed).batch(operations, b"shared", timeout_s), script)
    assert run.now <= 100.0 + timeout_s + 1e-6
    if isinstance(run.end, Finish):
        assert len(run.end.result) == len(operations)
    seen: dict[int, set[tuple[bytes, ...]]] = {}
    for send, _ in run.sent:
        for partition, command in commands_in(send.request).items():
            seen.setdefault(partition, set()).add(command)
    assert all(len(commands) == 1 for commands in seen.values())


def commands_in(request: Any) -> dict[int, tuple[bytes, ...]]:
    """The mutations without an id of their own, by partition, as the group's log would compare them."""
    found: dict[int, tuple[bytes, ...]] = {}
    for operation in request.operations if isinstance(request, kv_pb2.BatchRequest) else ():
        asked: Any = getattr(operation, str(operation.WhichOneof("kind")))
        if isinstance(asked, MUTATIONS) and not asked.request_id:
            partition = partition_of(asked.key, PARTITIONS)
            found[partition] = (*found.get(partition, ()), type(asked).__name__.encode() + asked.key)
    return found
