"""Requests and replies over frames: what shares a frame, what matches, and what is said of a request that fails."""

import asyncio
from random import Random

import pytest
from support.sessions import disturb, exchanging, question, reply_to
from support.virtual_time import reached, turns, virtual

from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import DescribeReply, Frame, Reply
from ringhold.node.peers.exchange import ExchangeConfig, RequestLost, RequestNotSent
from ringhold.node.peers.peering import FLUSH_S_MAX


@virtual
async def test_what_is_asked_in_one_breath_shares_a_frame() -> None:
    """Many requests cost one message."""
    async with exchanging() as peers:
        session = peers.connect()
        answers = [peers.ask(number) for number in range(10)]
        await turns()
        assert [len(frame.requests) for frame in session.sent] == [10]
        peers.answer(session, *(reply_to(request) for request in session.requests))
        assert [(await answer).describe.replicas for answer in answers] == list(range(10))


@virtual
async def test_a_frame_fills_while_the_one_before_is_in_flight() -> None:
    """What comes meanwhile goes in the next frame, in order."""
    async with exchanging() as peers:
        session = peers.connect()
        session.taking.clear()
        peers.ask(0)
        await turns()
        waiting = [peers.ask(number) for number in (1, 2, 3)]
        await turns()
        session.taking.set()
        await turns()
        assert [[request.read.group for request in frame.requests] for frame in session.sent] == [[0], [1, 2, 3]]
        assert not any(answer.done() for answer in waiting)


@pytest.mark.parametrize("seed", range(20))
@virtual
async def test_replies_are_matched_in_whatever_order_they_come(seed: int) -> None:
    """Each request gets its own reply, once."""
    rng = Random(seed)
    async with exchanging(ExchangeConfig(frame_messages_max=rng.randint(1, 9))) as peers:
        session = peers.connect()
        answers = [peers.ask(number) for number in range(30)]
        await reached(lambda: len(session.requests) == 30)
        replies = [reply_to(request) for request in session.requests]
        rng.shuffle(replies)
        while replies:
            count = rng.randint(1, len(replies))
            peers.answer(session, *replies[:count])
            del replies[:count]
        assert [(await answer).describe.replicas for answer in answers] == list(range(30))
        assert peers.exchange.requests_waiting == 0


@virtual
async def test_a_timeout_before_the_request_left_is_not_sent() -> None:
    """It is taken out of the queue, so it can't leave later."""
    async with exchanging() as peers:
        session = peers.connect()
        session.taking.clear()
        peers.ask(0, timeout_s=9)
        await turns()
        late = peers.ask(1, timeout_s=0.5)
        with pytest.raises(RequestNotSent):
            await late
        session.taking.set()
        await turns()
        assert [request.read.group for request in session.requests] == [0]


@virtual
async def test_a_timeout_after_the_request_left_is_lost_and_its_late_reply_ignored() -> None:
    """It may have been carried out; whatever comes later finds nobody."""
    async with exchanging() as peers:
        session = peers.connect()
        answer = peers.ask(0, timeout_s=0.5)
        with pytest.raises(RequestLost):
            await answer
        assert peers.exchange.requests_waiting == 0
        peers.answer(session, reply_to(session.requests[0]), Reply(id=999, describe=DescribeReply()))
        later = peers.ask(1)
        await turns()
        assert not later.done()


@virtual
async def test_the_end_of_a_session_fails_each_request_the_right_way() -> None:
    """What had left may have arrived, what had not certainly did not; with no session nothing is taken."""
    async with exchanging() as peers:
        session = peers.connect()
        sent = peers.ask(0)
        await turns()
        session.taking.clear()
        in_flight = peers.ask(1)
        await turns()
        queued = peers.ask(2)
        peers.exchange.session_ended(session)
        for answer, expected in ((sent, RequestLost), (in_flight, RequestLost), (queued, RequestNotSent)):
            with pytest.raises(expected):
                await answer
        assert not peers.exchange.connected("b")
        with pytest.raises(RequestNotSent):
            peers.ask(3)


@virtual
async def test_a_session_that_breaks_while_sending_ends() -> None:
    """The frame that could not be sent may have arrived in part."""
    async with exchanging() as peers:
        session = peers.connect()
        session.is_broken = True
        with pytest.raises(RequestLost):
            await peers.ask(0)
        assert not peers.exchange.connected("b")


@virtual
async def test_a_new_session_replaces_the_old_and_its_frames_are_ignored() -> None:
    """A peer has one session: the old one is closed, what waited on it fails, and it is not listened to any more."""
    async with exchanging() as peers:
        old = peers.connect()
        lost = peers.ask(0)
        await turns()
        new = peers.connect()
        assert old.is_closed
        with pytest.raises(RequestLost):
            await lost
        answer = peers.ask(1)
        await turns()
        peers.answer(old, reply_to(new.requests[0]))
        peers.exchange.frame_received(old, Frame(requests=[question(7)]))
        peers.exchange.session_ended(old)
        assert peers.server.asked == []
        assert not answer.done()
        peers.answer(new, reply_to(new.requests[0]))
        assert (await answer).describe.replicas == 1


@virtual
async def test_another_peers_reply_does_not_count() -> None:
    """Numbers are matched within a session."""
    async with exchanging() as peers:
        session, other = peers.connect("b"), peers.connect("c")
        answer = peers.ask(0, "b")
        await turns()
        peers.answer(other, reply_to(session.requests[0]))
        assert not answer.done()


@virtual
async def test_a_frame_has_at_most_so_many_messages() -> None:
    """The receiver's callback stays short (P8)."""
    async with exchanging(ExchangeConfig(frame_messages_max=4)) as peers:
        session = peers.connect()
        for number in range(10):
            peers.ask(number)
        await reached(lambda: len(session.requests) == 10)
        assert [len(frame.requests) for frame in session.sent] == [4, 4, 2]


@virtual
async def test_a_frame_has_at_most_so_many_bytes_but_one_message_always_fits() -> None:
    """A frame ends with the message that fills it; one larger than the bound goes alone."""
    async with exchanging(ExchangeConfig(frame_bytes_max=1_000)) as peers:
        session = peers.connect()
        for number, size in enumerate((600, 600, 5_000, 10, 10)):
            peers.ask(number, size=size)
        await reached(lambda: len(session.requests) == 5)
        groups = [[request.read.group for request in frame.requests] for frame in session.sent]
        assert groups == [[0, 1], [2], [3, 4]]


@virtual
async def test_too_many_requests_without_an_answer_are_refused_per_peer() -> None:
    """P8: a peer that does not answer takes no place from the others, and its own come free with the answers."""
    async with exchanging(ExchangeConfig(requests_waiting_max=3)) as peers:
        slow, _ = peers.connect("slow"), peers.connect("quick")
        for number in range(3):
            peers.ask(number, "slow")
        with pytest.raises(RequestNotSent):
            peers.ask(3, "slow")
        peers.ask(4, "quick")
        assert peers.exchange.requests_waiting == 4
        await turns()
        peers.answer(slow, reply_to(slow.requests[0]))
        peers.ask(5, "slow")


@virtual
async def test_a_peer_that_takes_no_replies_loses_its_session() -> None:
    """P8: replies don't pile up without end."""
    async with exchanging(ExchangeConfig(replies_waiting_max=5)) as peers:
        session = peers.connect()
        session.taking.clear()
        peers.exchange.frame_received(session, Frame(requests=[question(number) for number in range(9)]))
        for _, respond in peers.server.asked[:1]:
            respond(Reply())
        await turns()
        for _, respond in peers.server.asked[1:]:
            respond(Reply())
        assert session.is_closed
        assert not peers.exchange.connected("b")


@virtual
async def test_requests_of_peers_are_answered_under_their_numbers() -> None:
    """The server answers when and in the order that it likes; the number is the request's."""
    async with exchanging() as peers:
        session = peers.connect()
        asked = [question(number) for number in range(3)]
        for number, request in enumerate(asked):
            request.id = 70 + number
        peers.exchange.frame_received(session, Frame(requests=asked))
        for request, respond in reversed(peers.server.asked):
            respond(reply_to(request))
        await turns()
        assert [(reply.id, reply.describe.replicas) for reply in session.replies] == [(72, 2), (71, 1), (70, 0)]


@virtual
async def test_a_cancelled_wait_is_forgotten_when_its_reply_comes() -> None:
    """A caller that has gone does no harm."""
    async with exchanging() as peers:
        session = peers.connect()
        answer = peers.ask(0)
        await turns()
        answer.cancel()
        peers.answer(session, reply_to(session.requests[0]))
        assert peers.exchange.requests_waiting == 0


@virtual
async def test_what_was_answered_before_a_stop_still_leaves() -> None:
    """A peer whose command was applied hears of it, unless it takes nothing any more."""
    async with exchanging() as peers:
        session = peers.connect()
        session.taking.clear()
        peers.exchange.frame_received(session, Frame(requests=[question(7)]))
        (_, respond) = peers.server.asked[0]
        respond(Reply(describe=DescribeReply(replicas=7)))
        stopping = asyncio.ensure_future(peers.peering.stop())
        await turns()
        assert not peers.transport.is_stopped
        session.taking.set()
        await stopping
        assert [reply.describe.replicas for reply in session.replies] == [7]
        assert peers.transport.is_stopped


@virtual
async def test_a_peer_that_takes_nothing_does_not_hold_up_a_stop() -> None:
    """Waiting for it has a limit."""
    async with exchanging() as peers:
        session = peers.connect()
        session.taking.clear()
        peers.ask(0, timeout_s=60).add_done_callback(lambda answer: answer.exception())
        await turns()
        began = asyncio.get_running_loop().time()
        await peers.peering.stop()
        assert asyncio.get_running_loop().time() - began == pytest.approx(FLUSH_S_MAX)


@virtual
async def test_stopping_ends_the_sessions_and_fails_what_waits() -> None:
    """Nobody waits for an answer that can't come."""
    async with exchanging() as peers:
        peers.connect()
        answer = peers.ask(0)
        await turns()
        await peers.peering.stop()
        assert peers.transport.is_stopped
        with pytest.raises(RequestLost):
            await answer


@pytest.mark.parametrize("seed", range(30))
@virtual
async def test_whatever_happens_every_request_ends_once_and_truthfully(seed: int) -> None:
    """A request that is said not to be sent is in no frame; one that is answered or lost was in exactly one."""
    rng = Random(seed)
    async with exchanging(ExchangeConfig(frame_messages_max=3)) as peers:
        sessions = [peers.connect()]
        ends: dict[int, asyncio.Future[Reply]] = {}
        for number in range(60):
            await disturb(peers, sessions, rng)
            try:
                ends[number] = peers.ask(number, timeout_s=rng.choice((0.002, 0.05)))
            except RequestNotSent:
                continue
        await reached(lambda: all(end.done() for end in ends.values()))
        sent = [request.read.group for session in sessions for request in session.requests]
        assert len(set(sent)) == len(sent)
        for number, end in ends.items():
            if isinstance(end.exception(), RequestNotSent):
                assert number not in sent
            elif end.exception() is None:
                assert end.result().describe.replicas == number
                assert number in sent


@virtual
async def test_replies_go_before_requests() -> None:
    """What others wait for goes first when a frame is too small for all."""
    async with exchanging(ExchangeConfig(frame_messages_max=1)) as peers:
        session = peers.connect()
        peers.exchange.frame_received(session, Frame(requests=[question(7)]))
        peers.ask(0)
        peers.server.asked[0][1](Reply())
        await reached(lambda: len(session.requests) == 1)
        assert [(len(frame.replies), len(frame.requests)) for frame in session.sent] == [(1, 0), (0, 1)]


@virtual
async def test_the_two_exchanges_know_nothing_of_each_other() -> None:
    """A peer that takes no requests takes consensus all the same, and the end of one session is no end of the other."""
    async with exchanging() as peers:
        asked, posted = peers.connect(), peers.connect_raft()
        assert peers.peering.connected("b")
        asked.taking.clear()
        peers.ask(0)
        peers.post(1)
        await turns()
        assert (asked.sent, posted.terms) == ([], [[1]])
        peers.raft.session_ended(posted)
        assert (peers.exchange.connected("b"), peers.raft.connected("b")) == (True, False)
        assert not peers.peering.connected("b")
