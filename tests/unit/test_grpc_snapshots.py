"""Snapshots between nodes over real sockets: who gets one, what ends it, and that a slow reader costs no memory."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from support.network_peers import ELSEWHERE, Peer, introduce, peers
from support.polling import until

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Hello, SnapshotChunk, SnapshotRequest, StoredRow
from ringhold.api.proto.ringhold.internal.v1.peer_pb2_grpc import PeerStub
from ringhold.node.peers import grpc_snapshots
from ringhold.node.peers.transport import Chunks, Refusal, SessionEnded, SnapshotRefused
from ringhold.node.storage.engine import EngineFailed

WELCOME = Hello(cluster_id="c1", node_id="a", generation=1, target_node_id="b")


@dataclass
class Tap:
    """Sends chunks as long as they are taken, `count` at most, and then ends as it is told to."""

    count: int
    size: int = 10
    error: Exception | None = None
    asked: list[tuple[str, SnapshotRequest]] = field(default_factory=list)
    made: int = 0
    closed: int = 0

    async def serve_snapshot(self, peer_id: str, request: SnapshotRequest) -> Chunks:
        self.asked.append((peer_id, request))
        try:
            for number in range(1, self.count + 1):
                self.made = number
                yield SnapshotChunk(view=number, rows=[StoredRow(key=b"k", value=bytes(self.size))])
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1


async def views_of(peer: Peer, source: str, request: SnapshotRequest | None = None) -> list[int]:
    """The views that the chunks name, which here number them."""
    async with aclosing(peer.transport.fetch_snapshot(source, request or SnapshotRequest(group=1))) as chunks:
        return [chunk.view async for chunk in chunks]


async def test_a_peer_gets_what_it_asks_for_in_order() -> None:
    """The request arrives as it was made, with the hello; chunks come in the order in which they were made."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        tap = Tap(20)
        b.transport.serve_snapshots(tap)
        assert await views_of(a, "b", SnapshotRequest(group=7, view=3, after=b"x")) == list(range(1, 21))
        ((peer_id, request),) = tap.asked
        assert (peer_id, request.group, request.view, request.after) == ("a", 7, 3, b"x")
        assert tap.closed == 1


@pytest.mark.parametrize("refusal", list(Refusal))
async def test_a_refusal_keeps_its_reason(refusal: Refusal) -> None:
    """The reader learns why it gets no more, after the chunks that were sent."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        b.transport.serve_snapshots(Tap(2, error=SnapshotRefused(refusal, "because")))
        with pytest.raises(SnapshotRefused, match="because") as caught:
            await views_of(a, "b")
        assert caught.value.refusal is refusal


@pytest.mark.parametrize(
    "hello",
    [
        Hello(cluster_id="c2", node_id="a", generation=1, target_node_id="b"),
        Hello(cluster_id="c1", node_id="a", generation=1, target_node_id="z"),
        Hello(cluster_id="c1", node_id="stranger", generation=1, target_node_id="b"),
        Hello(),
    ],
    ids=["other cluster", "meant for another", "not a member", "nobody"],
)
async def test_who_does_not_belong_gets_nothing(hello: Hello) -> None:
    """P10: rows go to members of this cluster only, and to nobody who means another node."""
    async with peers("a", "b") as (a, b), grpc.aio.insecure_channel(b.address.grpc) as channel:
        b.transport.reach({"a": a.address})
        b.transport.serve_snapshots(tap := Tap(1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await PeerStub(channel).Snapshot(SnapshotRequest(hello=hello, group=1)).read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert tap.asked == []
        assert isinstance(await PeerStub(channel).Snapshot(SnapshotRequest(hello=WELCOME)).read(), SnapshotChunk)


async def test_nobody_is_asked_who_is_no_member_or_not_there() -> None:
    """The reader is told at once that the stream is over."""
    async with peers("a") as (a,):
        with pytest.raises(SessionEnded):
            await views_of(a, "b")
        a.transport.reach({"b": ELSEWHERE})
        with pytest.raises(SessionEnded):
            await views_of(a, "b")


async def test_a_reader_that_goes_away_ends_the_stream() -> None:
    """The source is told, so that it can keep the view for a while and no longer."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        tap = Tap(100_000, size=10_000)
        b.transport.serve_snapshots(tap)
        chunks = a.transport.fetch_snapshot("b", SnapshotRequest(group=1))
        assert (await anext(chunks)).view == 1
        await chunks.aclose()

        async def is_closed() -> bool:
            return tap.closed == 1

        await until(is_closed)
        assert tap.made < 1_000


async def test_a_slow_reader_holds_the_source_back() -> None:
    """What is made and not taken is bounded by the windows, a megabyte or so, however much there is to send."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        tap = Tap(100_000, size=64 * 1024)
        b.transport.serve_snapshots(tap)
        async with aclosing(a.transport.fetch_snapshot("b", SnapshotRequest(group=1))) as chunks:
            for expected in (1, 2, 3):
                assert (await anext(chunks)).view == expected
            looks = [0]

            async def has_stopped() -> bool:
                """Whether nothing more was made during the last ten looks."""
                looks.append(tap.made)
                return len(looks) > 10 and len(set(looks[-10:])) == 1

            await until(has_stopped)
            assert tap.made <= 32
            assert (await anext(chunks)).view == 4


async def test_a_stop_ends_streams_at_once() -> None:
    """Also one whose reader takes nothing: a node that stops waits for nobody."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        tap = Tap(100_000, size=64 * 1024)
        b.transport.serve_snapshots(tap)
        async with aclosing(a.transport.fetch_snapshot("b", SnapshotRequest(group=1))) as chunks:
            await anext(chunks)
            await b.transport.stop()

            async def read_on() -> None:
                async for _ in chunks:
                    pass

            with pytest.raises(SessionEnded, match="stopping"):
                await asyncio.wait_for(read_on(), 5)
        assert tap.closed == 1


async def test_a_source_whose_engine_fails_stops_its_node() -> None:
    """The reader is told that the stream is over; the failure is the node's own affair."""
    async with peers("a", "b") as (a, b):
        introduce(a, b)
        b.transport.serve_snapshots(Tap(1, error=EngineFailed("EIO")))
        with pytest.raises(SessionEnded):
            await views_of(a, "b")
        assert [str(failure) for failure in b.failures] == ["EIO"]
        b.failures.clear()


class RefusedWhenCancelled:
    """A stub whose call is refused in the moment in which its reader is cancelled: as grpc.aio tells of that."""

    def __init__(self, _: object) -> None:
        self.is_cancelled = False

    def Snapshot(self, _: SnapshotRequest) -> "RefusedWhenCancelled":
        return self

    async def read(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise AioRpcError(grpc.StatusCode.PERMISSION_DENIED, Metadata(), Metadata(), "no") from None

    def cancel(self) -> None:
        self.is_cancelled = True


async def test_who_is_cancelled_while_it_is_refused_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an installer would try again and again in a node that waits for it to stop."""
    monkeypatch.setattr(grpc_snapshots, "PeerStub", RefusedWhenCancelled)

    async def fetch() -> None:
        async with aclosing(grpc_snapshots.fetched("127.0.0.1:1", SnapshotRequest())) as chunks:
            async for _ in chunks:
                pass

    reading = asyncio.create_task(fetch())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
