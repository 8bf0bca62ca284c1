"""Consensus over its frames: order, bounds, what a frame vouches for, and what the port is told of sessions."""

from random import Random

import pytest
from support.sessions import RaftSession, disturb_raft, exchanging, message
from support.virtual_time import reached, turns, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Beat, RaftFrame
from ringhold.node.peers.raft_exchange import RaftExchangeConfig


@virtual
async def test_consensus_messages_share_a_frame_in_the_order_in_which_they_were_posted() -> None:
    """Messages of all groups to one node cost one message, and reach the port in one call."""
    async with exchanging() as peers:
        session = peers.connect_raft()
        peers.post(3, 1, 2)
        await turns()
        assert session.terms == [[3, 1, 2]]
        peers.raft.frame_received(session, RaftFrame(messages=[message(5), message(4)], heard_beat=17))
        assert peers.consensus.received == [("b", [5, 4], 17)]


@virtual
async def test_a_lone_consensus_message_leaves_at_the_next_turn() -> None:
    """It waits for no company, as what is under way between a gateway and a leader does."""
    async with exchanging() as peers:
        session = peers.connect_raft()
        await turns()
        peers.post(1)
        await turns(2)
        assert session.terms == [[1]]


@virtual
async def test_a_frame_bounds_consensus_messages_by_number_and_bytes() -> None:
    """P8: what does not fit goes in the next frame, in order; one message always fits."""
    async with exchanging(raft_config=RaftExchangeConfig(frame_messages_max=3, frame_bytes_max=1_000)) as peers:
        session = peers.connect_raft()
        peers.post(1, 2, 3, 4)
        peers.post(5, 6, size=600)
        peers.post(7, size=5_000)
        peers.post(8)
        await reached(lambda: sum(map(len, session.terms)) == 8)
        assert session.terms == [[1, 2, 3], [4, 5, 6], [7], [8]]
        assert peers.raft.bytes_waiting == 0


@virtual
async def test_the_heard_beat_of_a_frame_is_as_of_its_first_message() -> None:
    """A later beat must not vouch for an earlier message, also when messages are left over after a frame."""
    async with exchanging(raft_config=RaftExchangeConfig(frame_messages_max=2)) as peers:
        session = peers.connect_raft()
        session.taking.clear()
        peers.post(1)
        await turns()
        for term, heard in ((2, 10), (3, 11), (4, 12), (5, 13), (6, 14)):
            peers.consensus.heard = heard
            peers.post(term)
        peers.consensus.heard = 99
        session.taking.set()
        await reached(lambda: sum(map(len, session.terms)) == 6)
        assert session.terms == [[1], [2, 3], [4, 5], [6]]
        assert [frame.heard_beat for frame in session.sent] == [0, 10, 12, 14]


@virtual
async def test_without_a_session_what_is_posted_is_dropped() -> None:
    """A new session begins with nothing of the old one."""
    async with exchanging() as peers:
        peers.post(1)
        old = peers.connect_raft()
        old.taking.clear()
        peers.post(2)
        await turns()
        peers.post(3)
        new = peers.connect_raft()
        peers.post(4)
        await turns()
        assert (old.terms, new.terms) == ([], [[4]])


@virtual
async def test_a_peer_that_takes_no_consensus_loses_its_session() -> None:
    """P8: over the bound nothing more is taken, and consensus hears of the end, but not from within its own call."""
    async with exchanging(raft_config=RaftExchangeConfig(waiting_bytes_max=1_000)) as peers:
        session = peers.connect_raft()
        session.taking.clear()
        peers.post(1)
        await turns()
        peers.post(2, 3, size=450)
        assert (session.is_closed, peers.raft.connected("b")) == (False, True)
        peers.post(4, size=450)
        peers.post(5)
        assert (session.is_closed, peers.raft.connected("b")) == (True, False)
        assert peers.raft.bytes_waiting < 1_000
        assert peers.raft.channels.given_up == 1
        assert peers.consensus.told == [("b", "began")]
        peers.raft.session_ended(session)
        assert peers.consensus.told == [("b", "began"), ("b", "ended")]


@virtual
async def test_consensus_hears_of_sessions_in_turn_and_of_nothing_outside_them() -> None:
    """A replaced session ends before its successor begins; frames of the old one and of the ended are not passed on."""
    async with exchanging() as peers:
        old = peers.connect_raft()
        peers.raft.frame_received(old, RaftFrame(messages=[message(1)]))
        new = peers.connect_raft()
        peers.raft.frame_received(old, RaftFrame(messages=[message(2)]))
        peers.raft.session_ended(old)
        peers.raft.frame_received(new, RaftFrame(messages=[message(3)]))
        peers.raft.session_ended(new)
        peers.raft.frame_received(new, RaftFrame(messages=[message(4)]))
        last = peers.connect_raft()
        await peers.peering.stop()
        peers.raft.session_ended(last)
        session = ["began", "received", "ended"]
        assert [what for _, what in peers.consensus.told] == [*session, *session, "began", "ended"]
        assert [terms for _, terms, _ in peers.consensus.received] == [[1], [3]]


@virtual
async def test_what_consensus_posts_when_a_session_begins_goes_with_it() -> None:
    """The port may use a session from within `session_began`."""
    async with exchanging() as peers:
        told = peers.consensus.session_began

        def greet(peer_id: str) -> None:
            told(peer_id)
            peers.post(1, peer_id=peer_id)

        peers.consensus.session_began = greet  # type: ignore[method-assign]
        session = peers.connect_raft()
        await turns()
        assert session.terms == [[1]]


@virtual
async def test_beats_pass_with_and_without_a_session() -> None:
    """They have a stream of their own."""
    async with exchanging() as peers:
        peers.raft.send_beat("b", Beat(number=1))
        peers.raft.beat_received("b", Beat(number=2))
        assert peers.transport.beats == [("b", Beat(number=1))]
        assert peers.consensus.beats == [("b", Beat(number=2))]
        assert peers.consensus.told == []


@virtual
async def test_consensus_that_waits_still_leaves_before_a_stop() -> None:
    """What a leader says on its way out is not lost."""
    async with exchanging() as peers:
        session = peers.connect_raft()
        peers.post(1)
        await peers.peering.stop()
        assert session.terms == [[1]]


@pytest.mark.parametrize("seed", range(20))
@virtual
async def test_whatever_happens_consensus_is_in_order_without_a_gap(seed: int) -> None:
    """Each session carries a run of what was posted in it, and no frame vouches for more than its first message may."""
    rng = Random(seed)
    async with exchanging(raft_config=RaftExchangeConfig(frame_messages_max=3)) as peers:
        sessions = [peers.connect_raft()]
        posted_at: dict[int, tuple[RaftSession, int]] = {}
        for term in range(1, 100):
            await disturb_raft(peers, sessions, rng)
            peers.consensus.heard += rng.randrange(2)
            posted_at[term] = (sessions[-1], peers.consensus.heard)
            peers.post(term)
        sessions[-1].taking.set()
        await turns(500)
        for session in sessions:
            own = [term for term, (where, _) in posted_at.items() if where is session]
            sent = [term for terms in session.terms for term in terms]
            assert sent == own[: len(sent)]
            firsts = [(frame.heard_beat, frame.messages[0].term) for frame in session.sent]
            assert all(heard <= posted_at[term][1] for heard, term in firsts)
        own = [term for term, (where, _) in posted_at.items() if where is sessions[-1]]
        assert [term for terms in sessions[-1].terms for term in terms] == own
