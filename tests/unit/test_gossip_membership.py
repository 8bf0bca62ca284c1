"""The rules of membership, one by one: what each event changes and what it asks to be done."""

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import pytest
from support.gossip import member

from ringhold.gossip.comparison import digest_of
from ringhold.gossip.config import GossipConfig
from ringhold.gossip.events import (
    AnswerLost,
    AnswerReceived,
    AttributesChanged,
    Effect,
    ForgetPeer,
    LeaveRequested,
    MemberRemoved,
    PersistPeer,
    RelayPing,
    Reply,
    ReportChange,
    ReportConflict,
    RequestReceived,
    Send,
    SendIndirectPing,
    SendNews,
    SendPing,
    Started,
    TimePassed,
)
from ringhold.gossip.member import Fact, Member, MemberState
from ringhold.gossip.membership import Membership
from ringhold.gossip.messages import Ack, Digest, IndirectAck, IndirectPing, Ping, Push, Sync, SyncAnswer

ALIVE, SUSPECT, DEAD, LEFT = MemberState
LOCAL = member("a", generation=3, nonce=33)
E = TypeVar("E")


def core(*others: Member, config: GossipConfig | None = None, seeds: Iterable[str] = ()) -> Membership:
    """A started core that has heard of `others`."""
    made = Membership(LOCAL, seeds=seeds, known=(), config=config or GossipConfig(), rng=random.Random(1), now=0.0)
    made.handle(Started(), 0.0)
    if others:
        tell(made, others[0], *(_fact(other) for other in others))
    return made


def tell(made: Membership, sender: Member, *facts: Fact, now: float = 0.0) -> list[Effect]:
    """Let `sender` push facts."""
    return made.handle(RequestReceived(Push(sender, facts)), now)


def only(kind: type[E], effects: Iterable[object]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def probed(made: Membership, now: float) -> SendPing:
    """The ping of the next probe round."""
    return only(SendPing, made.handle(TimePassed(0.0), now))[0]


def state(made: Membership, node_id: str) -> MemberState | None:
    found = made.member(node_id)
    return found.state if found else None


B, C, D = member("b"), member("c"), member("d")


def test_a_newcomer_is_listed_persisted_reported_and_passed_on_at_once() -> None:
    """The first word of a node changes the list and is pushed to peers in the same step."""
    made = core(C)
    effects = tell(made, B, now=1.0)
    assert made.members() == (LOCAL, B, C)
    assert only(PersistPeer, effects) == [PersistPeer(B)]
    assert only(ReportChange, effects) == [ReportChange(None, B)]
    pushes = only(SendNews, effects)
    assert sorted(push.address for push in pushes) == [B.http_address, C.http_address]
    assert all(Fact(B) in push.message.facts for push in pushes if isinstance(push.message, Push))


def test_news_in_quick_succession_go_together() -> None:
    """Within the pause after a push facts wait; the next tick pushes them in one message."""
    made = core(C)
    tell(made, B, now=1.0)
    assert only(SendNews, tell(made, D, now=1.01)) == []
    pushes = only(SendNews, made.handle(TimePassed(0.0), 1.2))
    assert len([push for push in pushes if isinstance(push.message, Push)]) == 3


def test_what_is_known_already_causes_nothing() -> None:
    """A repeated fact yields only the answer."""
    made = core(B, C)
    effects = tell(made, B, Fact(C), now=5.0)
    assert [type(effect) for effect in effects] == [Reply]


@pytest.mark.parametrize(
    ("held", "heard", "expected"),
    [
        (ALIVE, SUSPECT, SUSPECT),
        (ALIVE, DEAD, SUSPECT),
        (SUSPECT, DEAD, SUSPECT),
        (SUSPECT, ALIVE, SUSPECT),
        (ALIVE, LEFT, LEFT),
        (SUSPECT, LEFT, LEFT),
        (LEFT, DEAD, LEFT),
    ],
)
def test_states_of_one_incarnation(held: MemberState, heard: MemberState, expected: MemberState) -> None:
    """Within an incarnation the later state wins, and a death at second hand is a suspicion."""
    made = core(C)
    tell(made, C, _fact(replace(B, state=held)))
    tell(made, C, _fact(replace(B, state=heard)))
    assert state(made, "b") is expected


@pytest.mark.parametrize("old", [SUSPECT, DEAD, LEFT])
def test_a_higher_incarnation_ends_an_accusation(old: MemberState) -> None:
    """The subject's own newer word wins over whatever was believed."""
    made = core(C)
    tell(made, C, _fact(replace(B, state=old)))
    tell(made, replace(B, incarnation=2))
    assert state(made, "b") is ALIVE


def _fact(about: Member) -> Fact:
    return Fact(about, "t" if about.state in {SUSPECT, DEAD} else "")


def test_a_suspect_that_stays_silent_is_declared_dead() -> None:
    """Three members: the minimum time passes, then DEAD, and it stays listed."""
    made = core(B, C)
    tell(made, C, Fact(replace(B, state=SUSPECT), "c"), now=10.0)
    made.handle(TimePassed(0.0), 13.9)
    assert state(made, "b") is SUSPECT
    effects = made.handle(TimePassed(0.0), 14.0)
    assert ReportChange(replace(B, state=SUSPECT), replace(B, state=DEAD)) in effects
    made.handle(TimePassed(0.0), 1_000_000.0)
    assert state(made, "b") is DEAD


def test_independent_accusers_hasten_a_death() -> None:
    """Five members: one accuser leaves 24 s, two more bring that down to 4 s, and their words are passed on."""
    made = core(B, C, D, member("e"))
    accused = replace(B, state=SUSPECT)
    tell(made, C, Fact(accused, "c"), now=10.0)
    made.handle(TimePassed(0.0), 20.0)
    assert state(made, "b") is SUSPECT
    effects = tell(made, D, Fact(accused, "d"), now=20.0)
    assert any(Fact(accused, "d") in push.facts for push in _pushes(effects))
    tell(made, D, Fact(accused, "e"), now=20.0)
    made.handle(TimePassed(0.0), 20.1)
    assert state(made, "b") is DEAD


def test_who_gives_a_suspect_up_says_so_in_its_own_name() -> None:
    """The word that spreads when a suspicion ends names this node, not the accuser that began it."""
    made = core(B, C, D, member("e"))
    for accuser in ("c", "d", "e"):
        tell(made, C, Fact(replace(B, state=SUSPECT), accuser), now=10.0)
    effects = made.handle(TimePassed(0.0), 14.1)
    assert any(Fact(replace(B, state=DEAD), "a") in push.facts for push in _pushes(effects))


def test_who_gives_a_suspect_up_counts_as_an_accuser() -> None:
    """Who has missed an accuser does not wait for the longest time: others give up, and each of them confirms once."""
    made = core(B, C, D, member("e"))
    tell(made, C, Fact(replace(B, state=SUSPECT), "c"), now=10.0)
    given_up = replace(B, state=DEAD)
    tell(made, D, Fact(given_up, "d"), Fact(given_up, "d"), now=14.0)
    made.handle(TimePassed(0.0), 14.1)
    assert state(made, "b") is SUSPECT
    tell(made, D, Fact(given_up, "e"), now=14.1)
    made.handle(TimePassed(0.0), 14.1)
    assert state(made, "b") is DEAD


def test_a_refutation_outlives_those_who_gave_up_without_it() -> None:
    """However many have given a member up, their words are of the incarnation that it has left."""
    made = core(B, C, D, member("e"))
    tell(made, C, Fact(replace(B, state=SUSPECT), "c"), now=10.0)
    tell(made, B, Fact(replace(B, incarnation=B.incarnation + 1)), now=11.0)
    effects = [tell(made, C, Fact(replace(B, state=DEAD), accuser), now=12.0) for accuser in ("c", "d", "e")]
    assert not any(only(ReportChange, each) for each in effects)
    made.handle(TimePassed(0.0), 100.0)
    assert state(made, "b") is ALIVE


def _pushes(effects: list[Effect]) -> list[Push]:
    return only(Push, [send.message for send in only(SendNews, effects)])


def test_a_stall_of_this_node_does_not_kill_suspects() -> None:
    """The time by which a tick is late is added to every suspicion, and counts against the own health."""
    made = core(B, C)
    tell(made, C, Fact(replace(B, state=SUSPECT), "c"), now=10.0)
    made.handle(TimePassed(60.0), 71.0)
    assert state(made, "b") is SUSPECT
    assert made.health_score == 1
    made.handle(TimePassed(0.0), 74.0)
    assert state(made, "b") is DEAD


def test_an_accused_node_refutes() -> None:
    """Who hears an accusation of itself raises its incarnation above it, and says so at once."""
    made = core(B)
    effects = tell(made, B, Fact(replace(LOCAL, incarnation=7, state=DEAD), "c"), now=1.0)
    assert made.local == replace(LOCAL, incarnation=8)
    assert Fact(made.local) in _pushes(effects)[0].facts
    assert made.health_score == 1


def test_an_accusation_in_a_digest_is_refuted_in_the_answer() -> None:
    """A comparison that shows this node as suspected is answered by the new incarnation."""
    made = core(B)
    digest = Digest("a", LOCAL.generation, LOCAL.nonce, 1, SUSPECT)
    effects = made.handle(RequestReceived(Sync(B, "", "", (digest,))), 1.0)
    answer = only(Reply, effects)[0].message
    assert answer.sender == replace(LOCAL, incarnation=2)
    assert Fact(answer.sender) in answer.facts  # type: ignore[union-attr]


def test_an_accused_peer_hears_of_it_first() -> None:
    """A ping to a suspect, and an answer to one, begin with the accusation."""
    made = core(B)
    accusation = Fact(replace(B, state=SUSPECT), "t")
    tell(made, C, accusation)
    effects = tell(made, B)
    assert only(Reply, effects)[0].message.facts[0] == accusation  # type: ignore[union-attr]
    pings = [probed(made, 2.0), probed(made, 4.0)]
    to_suspect = next(ping for ping in pings if ping.address == B.http_address)
    assert to_suspect.message.facts[0] == accusation  # type: ignore[union-attr]


@pytest.mark.parametrize(("generation", "nonce"), [(3, 1), (3, 99), (4, 33), (4, 1)])
def test_this_node_stops_when_its_id_runs_elsewhere(generation: int, nonce: int) -> None:
    """An equal generation with another nonce, or a higher one, means that this is a copy of the disk."""
    made = core(B)
    other = replace(LOCAL, generation=generation, nonce=nonce)
    assert only(ReportConflict, tell(made, B, Fact(other))) == [ReportConflict(other)]
    assert made.local == LOCAL


@pytest.mark.parametrize("nonce", [1, 99])
def test_a_copy_that_asks_this_very_node_is_the_one_that_stops(nonce: int) -> None:
    """Nobody can stop a running node by starting a copy of it: the copy stops when it hears who answers."""
    made = core(B)
    copied = replace(LOCAL, nonce=nonce, http_address="copy:1")
    effects = tell(made, copied, Fact(member("z")))
    assert [type(effect) for effect in effects] == [Reply]
    assert made.member("z") is None
    twin = Membership(
        copied, seeds=[LOCAL.http_address], known=(), config=GossipConfig(), rng=random.Random(1), now=0.0
    )
    (asked,) = only(SendNews, twin.handle(Started(), 0.0))
    (reply,) = only(Reply, made.handle(RequestReceived(asked.message), 0.0))
    heard = twin.handle(AnswerReceived(asked, reply.message), 0.0)  # type: ignore[arg-type]
    assert only(ReportConflict, heard)[0] == ReportConflict(LOCAL)


@pytest.mark.parametrize(("generation", "nonce"), [(3, 1), (3, 99), (4, 33)])
def test_a_digest_of_another_boot_makes_this_node_ask_where_that_runs(generation: int, nonce: int) -> None:
    """A digest has no address: the fact is wanted, and its arrival is the conflict."""
    made = core(B)
    other = replace(LOCAL, generation=generation, nonce=nonce, http_address="other:1")
    effects = made.handle(RequestReceived(Sync(B, "", "", (digest_of(other),))), 0.0)
    assert only(ReportConflict, effects) == []
    assert only(Reply, effects)[0].message.wanted == (LOCAL.node_id,)  # type: ignore[union-attr]
    assert only(ReportConflict, tell(made, B, Fact(other))) == [ReportConflict(other)]


def test_this_nodes_former_boots_are_no_conflict() -> None:
    """What others remember of earlier generations is answered by the present one."""
    made = core(B)
    former = replace(LOCAL, generation=2, nonce=1, incarnation=9, state=SUSPECT)
    assert only(ReportConflict, tell(made, B, Fact(former, "c"))) == []
    assert made.local == LOCAL


@pytest.mark.parametrize(("generation", "nonce"), [(5, 1), (5, 99_999), (4, 7)])
def test_a_copy_is_told_and_nothing_of_it_is_believed(generation: int, nonce: int) -> None:
    """A sender at an equal or lower generation with another nonce changes nothing and hears of the known boot."""
    known = replace(B, generation=5, nonce=50)
    made = core(known)
    copied = replace(B, generation=generation, nonce=nonce, http_address="copy:1")
    effects = tell(made, copied, Fact(member("z")), now=5.0)
    assert [type(effect) for effect in effects] == [Reply]
    assert only(Reply, effects)[0].message.facts[0] == Fact(known)  # type: ignore[union-attr]
    assert made.members() == (LOCAL, known)


def test_a_higher_generation_replaces_the_address_at_once() -> None:
    """A restart elsewhere is believed, persisted and reported, even of one who was DEAD or LEFT."""
    made = core(C, replace(B, state=LEFT))
    moved = replace(B, generation=2, nonce=1, http_address="moved:1")
    effects = tell(made, moved)
    assert made.member("b") == moved
    assert only(PersistPeer, effects) == [PersistPeer(moved)]


def test_remembered_peers_are_suspects_until_heard() -> None:
    """Memory lists a peer without vouching for it; its boot guards against copies; any word of its own is believed."""
    made = Membership(LOCAL, seeds=(), known=[B, LOCAL], config=GossipConfig(), rng=random.Random(1), now=0.0)
    assert state(made, "b") is SUSPECT
    assert [send.address for send in only(Send, made.handle(Started(), 0.0))] == [B.http_address]
    tell(made, replace(B, nonce=1))
    assert state(made, "b") is SUSPECT
    assert only(PersistPeer, tell(made, B)) == []
    assert state(made, "b") is ALIVE


def test_a_probe_that_is_answered_by_its_target_passes() -> None:
    """The health score falls with each success."""
    made = core(B)
    tell(made, B, Fact(replace(LOCAL, state=SUSPECT), "c"))
    assert made.health_score == 1
    ping = probed(made, 2.0)
    assert ping.timeout_s == pytest.approx(1.0)
    assert only(SendIndirectPing, made.handle(AnswerReceived(ping, Ack(B)), 2.1)) == []
    assert made.health_score == 0
    assert state(made, "b") is ALIVE


@pytest.mark.parametrize("stranger", [D, replace(B, nonce=1), replace(B, generation=0)])
def test_an_answer_of_somebody_else_is_no_answer(stranger: Member) -> None:
    """A stranger, or a copy, at the target's address does not vouch for it."""
    made = core(B)
    ping = probed(made, 2.0)
    made.handle(AnswerReceived(ping, Ack(stranger)), 2.1)
    made.handle(TimePassed(0.0), 2.2)
    indirect = stranger == D
    assert state(made, "b") is (ALIVE if indirect else SUSPECT)


def test_a_silent_target_is_asked_for_by_three_others() -> None:
    """One relay that reaches it is enough."""
    made = core(B, C, D, member("e"), member("f"))
    ping = probed(made, 2.0)
    relays = only(SendIndirectPing, made.handle(AnswerLost(ping, "timeout"), 2.5))
    assert len(relays) == 3
    assert ping.address not in [relay.address for relay in relays]
    made.handle(AnswerLost(relays[0], "timeout"), 2.9)
    made.handle(AnswerReceived(relays[1], IndirectAck(C, reached=True)), 2.9)
    made.handle(AnswerReceived(relays[2], IndirectAck(D, reached=False)), 3.0)
    assert {m.state for m in made.members()} == {ALIVE}


def test_a_target_that_nobody_reaches_is_suspected_by_this_node() -> None:
    """Relays that answered clear this node's health, those that were silent count against it."""
    made = core(B, C, D)
    ping = probed(made, 2.0)
    relays = only(SendIndirectPing, made.handle(AnswerLost(ping, "timeout"), 2.5))
    made.handle(AnswerReceived(relays[0], IndirectAck(D, reached=False)), 2.9)
    effects = made.handle(AnswerLost(relays[1], "timeout"), 3.0)
    target = ping.message.target  # type: ignore[union-attr]
    assert state(made, target) is SUSPECT
    assert made.health_score == 1
    assert any(fact.accuser == "a" for push in _pushes(effects) for fact in push.facts)


def test_poor_health_slows_probes() -> None:
    """Each point of the score adds one interval between probes, up to a limit."""
    made = core(B)
    for _ in range(20):
        made.handle(TimePassed(1.0), 0.0)
    assert made.health_score == GossipConfig().health_score_max
    probed(made, 1.0)
    assert only(SendPing, made.handle(TimePassed(0.0), 9.9)) == []
    assert only(SendPing, made.handle(TimePassed(0.0), 10.0))


def test_a_relay_pings_by_its_own_knowledge() -> None:
    """It answers when its ping is answered or lost; a target it does not know is not reached."""
    made = core(B, C)
    relay = only(RelayPing, made.handle(RequestReceived(IndirectPing(B, "c")), 1.0))[0]
    assert relay.address == C.http_address
    assert relay.timeout_s == pytest.approx(0.4)
    answered = made.handle(AnswerReceived(relay, Ack(C)), 1.1)
    assert only(Reply, answered) == [Reply(IndirectAck(LOCAL, reached=True))]
    lost = made.handle(AnswerLost(relay, "timeout"), 1.1)
    assert only(Reply, lost) == [Reply(IndirectAck(LOCAL, reached=False))]
    unknown = made.handle(RequestReceived(IndirectPing(B, "nobody")), 1.1)
    assert [effect.message.reached for effect in only(Reply, unknown)] == [False]  # type: ignore[union-attr]


def test_seeds_are_tried_again_ever_less_often_until_one_answers() -> None:
    """The pause doubles from 0.1 s to 5 s; the local address is not among the seeds."""
    made = core(seeds=["s:1", LOCAL.http_address])
    tried = [now / 10 for now in range(300) if only(Send, made.handle(TimePassed(0.0), now / 10))]
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert tried[0] == pytest.approx(0.1)
    assert pauses[:3] == pytest.approx([0.2, 0.4, 0.8], abs=0.11)
    assert pauses[-1] == pytest.approx(GossipConfig().join_retry_max_s, abs=0.11)
    tell(made, B, now=30.0)
    assert not [send for send in only(Send, made.handle(TimePassed(0.0), 36.0)) if send.address == "s:1"][1:]


def test_one_silent_member_or_seed_is_tried_every_half_minute() -> None:
    """So that a healed partition always reconnects; those who LEFT are let go."""
    config = GossipConfig(sync_interval_s=1e9)
    gone = replace(C, state=LEFT)
    made = core(B, gone, replace(D, state=SUSPECT), config=config, seeds=["s:1", B.http_address])
    made.handle(TimePassed(0.0), 29.0)
    assert state(made, "d") is DEAD
    sent: list[str] = []
    for now in range(30, 400):
        effects = made.handle(TimePassed(0.0), float(now))
        sent += [send.address for send in only(SendNews, effects) if isinstance(send.message, Sync)]
    assert sorted(set(sent)) == [D.http_address, "s:1"]
    assert len(sent) == 13


def test_the_removed_are_forgotten_for_good() -> None:
    """A member that the topology removed is unlisted, and nobody's word brings it back, not even its own."""
    made = core(B, C)
    effects = made.handle(MemberRemoved("b"), 1.0)
    assert effects[:2] == [ForgetPeer("b"), ReportChange(B, None)]
    tell(made, C, Fact(B), now=2.0)
    tell(made, replace(B, generation=9), now=2.0)
    assert made.member("b") is None
    assert made.handle(MemberRemoved("b"), 3.0) == []


def test_new_attributes_come_with_a_new_incarnation() -> None:
    """The change is told at once; setting what is already set is silent."""
    made = core(B)
    effects = made.handle(AttributesChanged({"topology_epoch": 7}), 1.0)
    assert made.local == replace(LOCAL, incarnation=2, topology_epoch=7)
    assert len(_pushes(effects)) == 1
    assert made.handle(AttributesChanged({"topology_epoch": 7}), 2.0) == []


def test_leaving_is_said_at_once() -> None:
    """LEFT carries a new incarnation, is pushed even within the pause, and is defended against accusations."""
    made = core(B)
    tell(made, D, now=1.0)
    effects = made.handle(LeaveRequested(), 1.0)
    assert made.local == replace(LOCAL, incarnation=2, state=LEFT)
    assert _pushes(effects)
    tell(made, B, Fact(replace(LOCAL, incarnation=5, state=SUSPECT), "b"))
    assert (made.local.state, made.local.incarnation) == (LEFT, 6)


def test_a_full_list_takes_nobody_in() -> None:
    """Facts beyond `members_max` are refused and counted; known members still change."""
    made = core(B, config=GossipConfig(members_max=1))
    tell(made, C)
    tell(made, replace(B, incarnation=2))
    assert [m.node_id for m in made.members()] == ["a", "b"]
    assert made.facts_refused == 1
    assert made.member("b") == replace(B, incarnation=2)


def test_a_comparison_asks_for_what_is_older_here_and_sends_what_is_newer() -> None:
    """Equal entries cost a digest only; what the other wants is pushed to it."""
    newer_here = replace(C, incarnation=4)
    made = core(B, newer_here, D)
    digests = tuple(
        Digest(m.node_id, m.generation, m.nonce, m.incarnation, m.state)
        for m in (LOCAL, B, C, replace(D, incarnation=9), member("x"))
    )
    answer = only(Reply, made.handle(RequestReceived(Sync(B, "", "", digests)), 1.0))[0].message
    assert answer == SyncAnswer(LOCAL, (Fact(newer_here),), ("d", "x"), "")
    sync = SendNews(B.http_address, Sync(LOCAL, "", "", ()), 2.0)
    effects = made.handle(AnswerReceived(sync, SyncAnswer(B, (), ("c", "nobody"), "")), 1.2)
    assert [push.facts for push in _pushes(effects)] == [(Fact(newer_here),)]


def test_a_comparison_that_does_not_advance_ends() -> None:
    """A peer can't keep this node comparing for ever."""
    made = core(B)
    sync = SendNews(B.http_address, Sync(LOCAL, "m", "", ()), 2.0)
    assert only(Send, made.handle(AnswerReceived(sync, SyncAnswer(B, (), (), "m")), 5.0)) == []
    onward = only(Send, made.handle(AnswerReceived(sync, SyncAnswer(B, (), (), "n")), 5.0))
    assert [send.message.after for send in onward if isinstance(send.message, Sync)] == ["n"]


def test_pings_are_answered_by_the_own_record() -> None:
    """Whoever asks learns who answers."""
    made = core(B)
    reply = only(Reply, made.handle(RequestReceived(Ping(B, "a")), 1.0))[0].message
    assert isinstance(reply, Ack)
    assert reply.sender == LOCAL
