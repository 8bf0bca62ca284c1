"""What this node believes about the others: SWIM with Lifeguard's refinements, as a pure state machine.

It is told events and the time, and returns what to do; `agent` does it. Neither network, clock nor chance is in here,
so that the simulator runs this very code. See docs/protocols/gossip.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, log10

from .broadcast import FactQueue
from .comparison import Comparison
from .config import FACTS_MAX, PIGGYBACK_FACTS_MAX, GossipConfig
from .events import (
    AnswerLost,
    AnswerReceived,
    AttributesChanged,
    Effect,
    Event,
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
from .member import Fact, Member, MemberState, heard, merged, remembered, replaces
from .messages import Ack, Answer, IndirectAck, IndirectPing, Message, Ping, Push, Sync, SyncAnswer
from .ports import Rng
from .rotation import ProbeRotation
from .suspicion import Suspicion
from .table import MemberTable


@dataclass(slots=True)
class _Probe:
    """One member being probed: relays not heard of yet, and those that never answered at all."""

    target: str
    pending: int = 0
    silent: int = 0


class Membership:
    """Every member but those REMOVED, the local one included. Changed only by `handle`."""

    def __init__(
        self,
        local: Member,
        *,
        seeds: Iterable[str],
        known: Iterable[Member],
        config: GossipConfig,
        rng: Rng,
        now: float,
    ) -> None:
        """`seeds` are HTTP addresses, `known` what PersistPeer kept; `local` is ALIVE and has incarnation 1 or more."""
        assert local.state is MemberState.ALIVE, "a node starts alive"
        assert local.incarnation >= 1, "incarnation 0 is for what is only remembered"
        self._local = local
        self._config = config
        self._rng = rng
        self._table = MemberTable()
        self._removed: dict[str, None] = {}
        self._seeds = list(dict.fromkeys(seed for seed in seeds if seed != local.http_address))
        self._suspicions: dict[str, Suspicion] = {}
        self._queue = FactQueue()
        self._rotation = ProbeRotation(rng)
        self._probes: dict[int, _Probe] = {}
        self._probe_number = 0
        self._health_score = 0
        self._facts_refused = 0
        self._news = False
        self._push_at = self._join_at = self._probe_at = self._sync_at = self._retry_at = 0.0
        self._join_pause_s = config.join_retry_min_s
        for member in known:
            self._remember(member, now)

    @property
    def local(self) -> Member:
        """This node as it presents itself."""
        return self._local

    @property
    def health_score(self) -> int:
        """0 if this node is well; each point stretches its probes by their plain length (Lifeguard, section IV-A)."""
        return self._health_score

    @property
    def facts_refused(self) -> int:
        """Facts not taken in because `members_max` was reached."""
        return self._facts_refused

    def members(self) -> tuple[Member, ...]:
        """All, by node id."""
        return tuple(sorted([self._local, *self._table.members()], key=lambda member: member.node_id))

    def member(self, node_id: str) -> Member | None:
        """The member of that id, None if there is none."""
        return self._local if node_id == self._local.node_id else self._table.member(node_id)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened at `now`; the effects are to be carried out in their order."""
        return [*self._dispatch(event, now), *self._push_news(now)]

    def _dispatch(self, event: Event, now: float) -> list[Effect]:
        match event:
            case TimePassed(lag_s):
                return self._pass_time(lag_s, now)
            case RequestReceived(request):
                return self._answer(request, now)
            case AnswerReceived(send, answer):
                return self._take_answer(send, answer, now)
            case AnswerLost(send):
                return self._miss_answer(send, now)
            case AttributesChanged(attributes):
                return self._present(replace(self._local, **attributes))
            case LeaveRequested():
                return self._leave(now)
            case MemberRemoved(node_id):
                return self._remove(node_id)
            case Started():
                return self._start(now)

    # Time

    def _start(self, now: float) -> list[Effect]:
        config = self._config
        self._probe_at = now + config.probe_interval_s * self._rng.random()
        self._sync_at = now + config.sync_interval_s * self._rng.random()
        self._retry_at = now + config.dead_retry_interval_s
        return self._join(now)

    def _remember(self, member: Member, now: float) -> None:
        if member.node_id != self._local.node_id:
            fact = Fact(remembered(member), self._local.node_id)
            self._table.put(fact)
            self._suspect(fact, now)

    def _pass_time(self, lag_s: float, now: float) -> list[Effect]:
        if lag_s > self._config.loop_lag_tolerated_s:
            self._note_lag(lag_s)
        effects = self._expire_suspicions(now)
        if now >= self._join_at and self._is_alone():
            effects += self._join(now)
        if now >= self._probe_at:
            effects += self._probe(now)
        if now >= self._sync_at:
            effects += self._sync(now)
        if now >= self._retry_at:
            effects += self._retry_one_dead(now)
        return effects

    def _note_lag(self, lag_s: float) -> None:
        self._worsen(1)
        for suspicion in self._suspicions.values():
            suspicion.postpone(lag_s)

    def _expire_suspicions(self, now: float) -> list[Effect]:
        """Give up who has not refuted in time, in this node's own name, which others count as one accuser more.

        Of many accusers a peer may have missed the one that would have hastened its own decision. It has waited for a
        refutation as this node has, so the words are independent (Lifeguard, section IV-B; docs/protocols/gossip.md).
        """
        expired = [suspicion.fact.member for suspicion in self._suspicions.values() if suspicion.expires_at <= now]
        effects: list[Effect] = []
        for member in expired:
            effects += self._adopt(Fact(replace(member, state=MemberState.DEAD), self._local.node_id), now)
        return effects

    # Joining, and finding again who was lost

    def _is_alone(self) -> bool:
        return next(self._table.in_state(MemberState.ALIVE), None) is None

    def _join(self, now: float) -> list[Effect]:
        self._join_at = now + self._join_pause_s
        self._join_pause_s = min(2 * self._join_pause_s, self._config.join_retry_max_s)
        fanout = self._config.join_fanout
        return [*self._sync_with_some(self._seeds, fanout), *self._sync_with_some(self._lost_addresses(), fanout)]

    def _note_contact(self, now: float) -> None:
        self._join_pause_s = self._config.join_retry_min_s
        self._sync_at = min(self._sync_at, now + self._config.join_sync_delay_s)

    def _lost_addresses(self) -> list[str]:
        return [member.http_address for member in self._table.in_state(MemberState.SUSPECT, MemberState.DEAD)]

    def _retry_one_dead(self, now: float) -> list[Effect]:
        """Try somebody who is silent: a lost member, or a seed that is the address of none that is alive."""
        self._retry_at = now + self._config.dead_retry_interval_s
        alive = frozenset(member.http_address for member in self._table.in_state(MemberState.ALIVE))
        silent = [address for address in self._seeds if address not in alive]
        return self._sync_with_some(list(dict.fromkeys([*silent, *self._lost_addresses()])), 1)

    def _sync(self, now: float) -> list[Effect]:
        self._sync_at = now + self._config.sync_interval_s
        return self._sync_with_some([member.http_address for member in self._table.reachable()], 1)

    def _sync_with_some(self, addresses: list[str], count: int) -> list[Effect]:
        chosen = self._rng.sample(addresses, min(count, len(addresses)))
        return [self._sync_page(address, after="") for address in chosen]

    # Probing

    def _probe(self, now: float) -> list[Effect]:
        self._probe_at = now + self._config.probe_interval_s * (1 + self._health_score)
        target = self._rotation.next_of([member.node_id for member in self._table.reachable()])
        if target is None:
            return []
        self._probe_number += 1
        self._probes[self._probe_number] = _Probe(target)
        return [SendPing(self._address_of(target), self._ping(target), self._probe_timeout_s(), self._probe_number)]

    def _address_of(self, node_id: str) -> str:
        member = self._table.member(node_id)
        assert member is not None, "only listed members are probed"
        return member.http_address

    def _ping(self, target: str) -> Ping:
        return Ping(self._local, target, self._facts_for(target))

    def _probe_timeout_s(self) -> float:
        return self._config.probe_timeout_s * (1 + self._health_score)

    def _ask_others(self, number: int, now: float) -> list[Effect]:
        probe = self._probes[number]
        relays = [member for member in self._table.reachable() if member.node_id != probe.target]
        chosen = self._rng.sample(relays, min(self._config.indirect_probes, len(relays)))
        probe.pending = len(chosen)
        if not chosen:
            probe.silent = 1
            return self._fail_probe(number, now)
        return [self._indirect_ping(relay, number) for relay in chosen]

    def _indirect_ping(self, relay: Member, number: int) -> Effect:
        message = IndirectPing(self._local, self._probes[number].target, self._facts_for(relay.node_id))
        return SendIndirectPing(relay.http_address, message, self._probe_timeout_s(), number)

    def _hear_relay(self, number: int, reached: bool, now: float) -> list[Effect]:
        if number not in self._probes:
            return []
        if reached:
            return self._pass_probe(number)
        return self._count_relay(number, now)

    def _miss_relay(self, number: int, now: float) -> list[Effect]:
        if number not in self._probes:
            return []
        self._probes[number].silent += 1
        return self._count_relay(number, now)

    def _count_relay(self, number: int, now: float) -> list[Effect]:
        self._probes[number].pending -= 1
        return self._fail_probe(number, now) if self._probes[number].pending == 0 else []

    def _pass_probe(self, number: int) -> list[Effect]:
        del self._probes[number]
        self._health_score = max(0, self._health_score - 1)
        return []

    def _fail_probe(self, number: int, now: float) -> list[Effect]:
        probe = self._probes.pop(number)
        self._worsen(probe.silent)
        member = self._table.member(probe.target)
        if member is None or not member.is_reachable:
            return []
        return self._merge(Fact(replace(member, state=MemberState.SUSPECT), self._local.node_id), now)

    def _worsen(self, points: int) -> None:
        self._health_score = min(self._health_score + points, self._config.health_score_max)

    # Conversation

    def _answer(self, request: Ping | IndirectPing | Sync | Push, now: float) -> list[Effect]:
        effects = [] if self._is_copy_of_self(request.sender) else self._hear(request, now)
        match request:
            case IndirectPing(_, target):
                return [*effects, self._relay(request, target)]
            case Sync():
                effects += self._merge_digests_about_self(request, now)
                return [*effects, Reply(self._comparison().answer(request))]
            case Ping() | Push():
                return [*effects, Reply(Ack(self._local, self._facts_back(request.sender)))]

    def _is_copy_of_self(self, sender: Member) -> bool:
        """Whether a copy of this node's disk asks. Who asks is the later one: the answer's sender makes it stop."""
        own = self._local
        return sender.node_id == own.node_id and sender.generation == own.generation and sender.boot != own.boot

    def _relay(self, request: IndirectPing, target: str) -> Effect:
        member = self._table.member(target)
        if member is None:
            return Reply(IndirectAck(self._local, False, self._facts_back(request.sender)))
        timeout_s = self._config.probe_timeout_s * self._config.relay_timeout_share
        return RelayPing(member.http_address, self._ping(target), timeout_s)

    def _take_answer(self, send: Send, answer: Answer, now: float) -> list[Effect]:
        effects = self._hear(answer, now)
        match send, answer:
            case SendPing(probe=number, message=Ping(target=target)), Ack(sender) if self._is_member(target, sender):
                return [*effects, *self._pass_probe(number)]
            case SendPing(probe=number), _:
                return [*effects, *self._ask_others(number, now)]
            case SendIndirectPing(probe=number), IndirectAck(reached=reached):
                return [*effects, *self._hear_relay(number, reached, now)]
            case RelayPing(message=Ping(target=target)), _:
                return [*effects, Reply(IndirectAck(self._local, self._is_member(target, answer.sender)))]
            case SendNews(message=Sync() as request), SyncAnswer():
                return [*effects, *self._follow_up(send.address, request, answer)]
        return effects

    def _miss_answer(self, send: Send, now: float) -> list[Effect]:
        match send:
            case SendPing(probe=number):
                return self._ask_others(number, now)
            case SendIndirectPing(probe=number):
                return self._miss_relay(number, now)
            case RelayPing():
                return [Reply(IndirectAck(self._local, False))]
        return []

    def _is_member(self, node_id: str, sender: Member) -> bool:
        """Whether the sender is the one asked for: not a stranger at its old address, nor a copy of its disk."""
        held = self._table.member(node_id)
        return sender.node_id == node_id and held is not None and held.boot == sender.boot

    def _facts_for(self, peer: str) -> tuple[Fact, ...]:
        return self._accused_first(peer, self._riding(PIGGYBACK_FACTS_MAX - 1))

    def _accused_first(self, peer: str, riding: tuple[Fact, ...]) -> tuple[Fact, ...]:
        """What rides on a request. A peer that is accused hears of it first (Lifeguard's buddy system)."""
        held = self._table.fact(peer)
        if held is None or held.member.state is MemberState.ALIVE:
            return riding
        return _with_first(held, riding)

    def _facts_back(self, sender: Member) -> tuple[Fact, ...]:
        """What rides on an answer. A sender that others know otherwise (accused, or a copy) hears of it first."""
        riding = self._riding(PIGGYBACK_FACTS_MAX - 1)
        held = self._table.fact(sender.node_id)
        if held is None or held.member == sender:
            return riding
        return _with_first(held, riding)

    def _riding(self, count_max: int) -> tuple[Fact, ...]:
        return self._queue.take(count_max, self._transmissions_max()) if self._queue else ()

    def _transmissions_max(self) -> int:
        return self._config.transmissions_factor * ceil(log10(self._size() + 1))

    def _size(self) -> int:
        """n: this node and those that may be alive."""
        return 1 + self._table.reachable_count

    # Spreading and comparing

    def _push_news(self, now: float) -> list[Effect]:
        if not self._news or now < self._push_at:
            return []
        peers = self._table.reachable()
        self._news = False
        self._push_at = now + self._config.push_pause_s
        chosen = self._rng.sample(peers, min(self._config.push_fanout, len(peers)))
        riding = self._riding(FACTS_MAX - 1)
        return [self._push(peer.http_address, self._accused_first(peer.node_id, riding)) for peer in chosen]

    def _push(self, address: str, facts: tuple[Fact, ...]) -> Effect:
        return SendNews(address, Push(self._local, facts), self._config.sync_timeout_s)

    def _comparison(self) -> Comparison:
        return Comparison(self._local, self._table.facts)

    def _sync_page(self, address: str, after: str) -> Effect:
        return SendNews(address, self._comparison().page(after), self._config.sync_timeout_s)

    def _follow_up(self, address: str, request: Sync, answer: SyncAnswer) -> list[Effect]:
        """Send what was wanted, and compare the next page; one that does not advance ends the comparison."""
        wanted = [fact for fact in map(self._fact, answer.wanted) if fact]
        pages = [tuple(wanted[start : start + FACTS_MAX]) for start in range(0, len(wanted), FACTS_MAX)]
        effects = [self._push(address, page) for page in pages]
        if answer.covered > request.after:
            effects.append(self._sync_page(address, after=answer.covered))
        return effects

    def _fact(self, node_id: str) -> Fact | None:
        return Fact(self._local) if node_id == self._local.node_id else self._table.fact(node_id)

    def _merge_digests_about_self(self, request: Sync, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for digest in request.digests:
            if digest.node_id == self._local.node_id and digest.rank[:2] == self._local.boot:
                _, _, incarnation, state = digest.rank
                claim = replace(self._local, incarnation=incarnation, state=MemberState(state))
                effects += self._merge(Fact(claim), now)
        return effects

    # Merging

    def _hear(self, message: Message, now: float) -> list[Effect]:
        """Take in a message's facts, its sender's first; nothing of a process that runs on a copy of a known disk."""
        sender = message.sender
        held = self._table.member(sender.node_id)
        if held is not None and not replaces(sender, held):
            return []
        effects = self._merge(Fact(sender), now)
        for fact in () if isinstance(message, Sync) else message.facts:
            effects += self._merge(fact, now)
        return effects

    def _merge(self, fact: Fact, now: float) -> list[Effect]:
        member = heard(fact.member)
        if member.node_id == self._local.node_id:
            return self._hear_about_self(member)
        if member.node_id in self._removed:
            return []
        held = self._table.member(member.node_id)
        if held is None:
            return self._admit(Fact(member, fact.accuser), now)
        if merged(held, member) != held:
            return self._adopt(Fact(member, fact.accuser), now)
        if member == held and held.state is MemberState.SUSPECT:
            self._confirm(Fact(member, fact.accuser))
        return []

    def _admit(self, fact: Fact, now: float) -> list[Effect]:
        if len(self._table) >= self._config.members_max:
            self._facts_refused += 1
            return []
        self._rotation.insert(fact.member.node_id)
        return self._adopt(fact, now)

    def _adopt(self, fact: Fact, now: float) -> list[Effect]:
        before, after = self._table.member(fact.member.node_id), fact.member
        if after.state is MemberState.ALIVE and self._is_alone():
            self._note_contact(now)
        self._table.put(fact)
        self._suspicions.pop(after.node_id, None)
        if after.state is MemberState.SUSPECT:
            self._suspect(fact, now)
        self._tell(fact)
        if before is None or before.boot != after.boot:
            return [PersistPeer(after), ReportChange(before, after)]
        return [ReportChange(before, after)]

    def _suspect(self, fact: Fact, now: float) -> None:
        self._suspicions[fact.member.node_id] = Suspicion(fact, now, self._size(), self._config)

    def _confirm(self, fact: Fact) -> None:
        if self._suspicions[fact.member.node_id].confirm(fact.accuser):
            self._tell(fact)

    def _tell(self, fact: Fact) -> None:
        self._queue.put(fact)
        self._news = True

    # The local member

    def _hear_about_self(self, claim: Member) -> list[Effect]:
        if not replaces(self._local, claim):
            return [ReportConflict(claim)]
        if claim.boot != self._local.boot or merged(self._local, claim) == self._local:
            return []
        self._worsen(1)
        return self._speak(replace(self._local, incarnation=claim.incarnation + 1))

    def _present(self, wished: Member) -> list[Effect]:
        return [] if wished == self._local else self._speak(replace(wished, incarnation=wished.incarnation + 1))

    def _leave(self, now: float) -> list[Effect]:
        self._push_at = now
        return self._present(replace(self._local, state=MemberState.LEFT))

    def _speak(self, after: Member) -> list[Effect]:
        before, self._local = self._local, after
        self._tell(Fact(after))
        return [ReportChange(before, after)]

    def _remove(self, node_id: str) -> list[Effect]:
        self._removed[node_id] = None
        member = self._table.remove(node_id)
        self._suspicions.pop(node_id, None)
        self._queue.forget(node_id)
        return [ForgetPeer(node_id), ReportChange(member, None)] if member else []


def _with_first(first: Fact, others: tuple[Fact, ...]) -> tuple[Fact, ...]:
    return (first, *(fact for fact in others if fact.member.node_id != first.member.node_id))
