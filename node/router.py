"""Brings one operation to the leader of its group, wherever that is, and back, within the caller's deadline.

Every attempt has its own timeout, and the next one goes elsewhere if it found no leader. An attempt that may have
reached one leaves a mutation in doubt, and only a logged outcome ends that doubt: the same command is repeated, with
its request_id, until there is one (P3).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..api.errors import DataLoss, RingholdError, Unavailable, error_for
from ..api.proto.ringhold.internal.v1.peer_pb2 import (
    Failure,
    ReadRequest,
    Reply,
    Request,
)
from ..api.proto.ringhold.storage.v1.records_pb2 import VERDICT_EXPIRED, Command, Outcome
from .attempts import Attempts, AttemptsConfig
from .clock import Clock
from .consensus.groups import Groups
from .consensus.tickets import AnchorOutOfRange, Applied, Deposed, NotLeader, ReadAnswer
from .losses import no_healthy_copy
from .machine.dedupe import DEDUPE_WINDOW_MS
from .machine.records import grows
from .peers.exchange import Exchange, RequestLost, RequestNotSent
from .routes import Reaches, Routes

COMMANDS_PER_REQUEST_MAX = 64
"""Commands of a batch in one request: the node that gets it takes them all in one callback (P8)."""


Answer = TypeVar("Answer")

Refusal: TypeAlias = NotLeader | RequestNotSent | RequestLost | AnchorOutOfRange | RingholdError
"""Why an attempt gave no outcome."""

REFUSALS = (NotLeader, RequestNotSent, RequestLost, AnchorOutOfRange, RingholdError)


class LandingHere(NamedTuple):
    """An attempt at this node: the command is in the log's open entry, and given up on by a timer."""

    future: asyncio.Future[Applied]
    timer: asyncio.TimerHandle


class LandingElsewhere(NamedTuple):
    """An attempt at another node: `place` is that of its outcome in the reply."""

    future: asyncio.Future[Reply]
    place: int


Landing: TypeAlias = LandingHere | LandingElsewhere | Refusal
"""An attempt under way, or what stopped it before it began."""


@dataclass(slots=True)
class Proposal:
    """A command, and the attempt at it that was begun last, at `leader`. `chosen_here`: its anchor is the gateway's."""

    group: int
    command: Command
    deadline: float
    chosen_here: bool
    leader: str
    landing: Landing = field(init=False)

    def abandon(self) -> None:
        """Nobody waits for the outcome any more; the attempt under way may still take effect."""
        if not isinstance(self.landing, Exception):
            self.landing.future.cancel()
        if isinstance(self.landing, LandingHere):
            self.landing.timer.cancel()


class Router:
    """Reads and proposals by group, local or remote alike. Raises the errors of api/errors.py."""

    def __init__(
        self,
        node_id: str,
        groups: Groups,
        exchange: Exchange,
        routes: Routes,
        clock: Clock,
        rng: random.Random,
        config: AttemptsConfig | None = None,
    ) -> None:
        self._node_id = node_id
        self._groups = groups
        self._exchange = exchange
        self._routes = routes
        self._clock = clock
        self._rng = rng
        self._config = config or AttemptsConfig()

    async def read(self, group: int, keys: Sequence[bytes], deadline: float) -> ReadAnswer:
        """The rows under keys of one group, linearizable. Raises Unavailable if no leader answers in time, DataLoss."""
        answer = self._read_here(group, keys)
        if answer is not None:
            return answer
        attempts = self._attempts(group, deadline)
        while True:
            try:
                return await self._read_once(self._aim(group, attempts), group, keys, attempts.timeout_s())
            except (NotLeader, RequestNotSent, RequestLost, Unavailable) as error:
                await attempts.failed(error)

    async def at_leader(
        self,
        group: int,
        deadline: float,
        here: Callable[[], Awaitable[Answer]],
        there: Callable[[str, float], Awaitable[Answer]],
    ) -> Answer:
        """What the leader of a group answers, be it this node; `there` asks another node for so many seconds at most.

        For what may be asked again. Raises Unavailable if none answers in time, and what else it answers with.
        """
        attempts = self._attempts(group, deadline)
        while True:
            leader = self._aim(group, attempts)
            try:
                return await (here() if leader == self._node_id else there(leader, attempts.remaining_s))
            except (NotLeader, RequestNotSent, RequestLost, Unavailable) as error:
                await attempts.failed(error)

    async def read_stale(self, group: int, keys: Sequence[bytes], deadline: float) -> ReadAnswer:
        """The rows as some replica has them: that of this node, or the first of the others that answers.

        Raises Unavailable if none does in time, DataLoss if all of them answer, and none has a good copy.
        """
        attempts = self._attempts(group, deadline)
        while True:
            refusals: dict[str, Exception] = {}
            for replica in self._nearest(group):
                try:
                    return await self._read_stale_once(replica, group, keys, attempts.timeout_s())
                except (NotLeader, RequestNotSent, RequestLost, DataLoss, Unavailable) as error:
                    refusals[replica] = error
            if all(tells_of_loss(refusals.get(replica)) for replica in self._routes.replicas(group)):
                losses = (refusal for refusal in refusals.values() if isinstance(refusal, DataLoss))
                raise next(losses, no_healthy_copy([group]))
            if not await attempts.pause():
                raise attempts.no_replica() from refusals.popitem()[1]

    def reaches(self, node_id: str) -> bool:
        """Whether a request to the node may be answered: it is this one, or there is a session and it was heard lately.

        A node that hangs keeps its sessions, and falls silent.
        """
        return node_id == self._node_id or (self._exchange.connected(node_id) and self._groups.hears(node_id))

    def aim(self, group: int, reaches: Reaches | None = None) -> str:
        """Where the next attempt goes: here if this node leads, else to the leader that is known, if it is in reach.

        `reaches`: who aims at many groups in one breath need not find out for each who is in reach.
        """
        reaches = reaches or self.reaches
        route = self._routes.get(group)
        if self._groups.is_leader(group) and self._groups.term(group) >= route.term:
            return self._node_id
        if reaches(route.leader):
            return route.leader
        self._routes.passed_over(group, route.leader, reaches)
        return self._routes.leader(group)

    async def propose(self, group: int, command: Command, deadline: float) -> Applied:
        """The outcome of a command, after as many attempts as its deadline allows.

        Without an anchor it gets one here: it is the same in every attempt that counts.

        Raises Unavailable or Overloaded if certainly nothing was applied, InDoubt if that is uncertain, InvalidRequest.
        Who resolves a request is never in doubt: that can be repeated.
        """
        proposal = self._proposal(group, command, deadline)
        self._launch(proposal.leader, (proposal,))
        try:
            return await self._outcome(proposal)
        except REFUSALS as refusal:
            return await self._repeat(proposal, refusal)

    async def propose_many(
        self, commands: Iterable[tuple[int, Command]], deadline: float
    ) -> list[Applied | RingholdError]:
        """For each (group, command), in their order, what `propose` would return or raise.

        All are under way at once; those for one node go in one message, and come back in one. What must go again does
        so when all first attempts have ended, side by side.
        """
        proposals = [self._proposal(group, command, deadline) for group, command in commands]
        by_leader: dict[str, list[Proposal]] = {}
        for proposal in proposals:
            by_leader.setdefault(proposal.leader, []).append(proposal)
        for leader, some in by_leader.items():
            for start in range(0, len(some), COMMANDS_PER_REQUEST_MAX):
                self._launch(leader, some[start : start + COMMANDS_PER_REQUEST_MAX])
        await ended(proposals)
        firsts = [await self._first_outcome(proposal) for proposal in proposals]
        both = zip(proposals, firsts, strict=True)
        repeats = [self._told(proposal, first) for proposal, first in both if isinstance(first, Exception)]
        repeated = iter(await asyncio.gather(*repeats))
        return [next(repeated) if isinstance(first, Exception) else first for first in firsts]

    def _proposal(self, group: int, command: Command, deadline: float) -> Proposal:
        """A command with an anchor, and where it goes first."""
        leader, chosen_here = self.aim(group), not command.anchor_ms
        if chosen_here:
            command.anchor_ms = self._anchor(group, leader)
        return Proposal(group, command, deadline, chosen_here, leader)

    async def _repeat(self, proposal: Proposal, refusal: Refusal) -> Applied:
        """The outcome of a command whose first attempt gave none; raises as `propose` does."""
        attempts = self._attempts(proposal.group, proposal.deadline, proposal.command)
        while True:
            attempts.aimed_at = proposal.leader
            await self._make_ready(proposal, attempts, refusal)
            proposal.leader = self.aim(proposal.group)
            self._launch(proposal.leader, (proposal,))
            try:
                return await self._outcome(proposal)
            except REFUSALS as error:
                refusal = error

    async def _make_ready(self, proposal: Proposal, attempts: Attempts, refusal: Refusal) -> None:
        """Return when it is time for another attempt. Raises what is told instead if there is to be none."""
        match refusal:
            case AnchorOutOfRange(log_time_ms=log_time_ms):
                if attempts.in_doubt or not proposal.chosen_here:
                    raise attempts.expired(refusal) from refusal
                proposal.command.anchor_ms = log_time_ms
            case RingholdError() if not (
                isinstance(refusal, Unavailable) or attempts.in_doubt or "moving" in refusal.details
            ):
                raise refusal
            case _:  # what this attempt met says nothing of an earlier one, nor of a next
                await attempts.failed(refusal)

    async def _told(self, proposal: Proposal, refusal: Refusal) -> Applied | RingholdError:
        try:
            return await self._repeat(proposal, refusal)
        except RingholdError as error:
            return error

    def _attempts(self, group: int, deadline: float, command: Command | None = None) -> Attempts:
        return Attempts(self._clock, self._rng, self._routes, self.reaches, self._config, group, deadline, command)

    def _aim(self, group: int, attempts: Attempts) -> str:
        attempts.aimed_at = self.aim(group)
        return attempts.aimed_at

    def _anchor(self, group: int, leader: str) -> int:
        """The log time of the group, as far as is known; never 0, which a repetition would take for no anchor."""
        if leader == self._node_id and self._groups.leads(group):
            return self._groups.log_time_ms(group)
        return max(1, self._routes.get(group).log_time_at(self._clock.now()))

    def _read_here(self, group: int, keys: Sequence[bytes]) -> ReadAnswer | None:
        """The rows, if this node may answer at once: it leads by a lease, and none of them is damaged."""
        if not self._groups.is_leader(group):
            return None
        try:
            return self._groups.read(group, keys)
        except NotLeader:
            return None

    async def _read_once(self, leader: str, group: int, keys: Sequence[bytes], timeout_s: float) -> ReadAnswer:
        if leader == self._node_id:
            await self._confirm(group, timeout_s)
            return self._groups.read_confirmed(group, keys)
        request = Request(read=ReadRequest(group=group, keys=keys))
        reply = await self.ask(leader, group, request, timeout_s)
        answer = reply.read
        self._routes.heard(group, leader, answer.term, answer.log_time_ms, self._clock.now())
        return ReadAnswer([row or None for row in answer.rows], answer.term, answer.log_time_ms)

    async def _confirm(self, group: int, timeout_s: float) -> None:
        """Have a majority confirm that this node leads. Raises NotLeader, RequestLost."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._groups.confirm(group)
        except TimeoutError as error:
            raise RequestLost("no majority has confirmed this leader in time") from error

    def _nearest(self, group: int) -> list[str]:
        """Who may have a replica, this node first, then those in reach in any order: so the load is spread."""
        others = [node for node in self._routes.replicas(group) if node != self._node_id]
        self._rng.shuffle(others)
        return [self._node_id, *sorted(others, key=self.reaches, reverse=True)]

    async def _read_stale_once(self, replica: str, group: int, keys: Sequence[bytes], timeout_s: float) -> ReadAnswer:
        if replica == self._node_id:
            return self._groups.read_stale(group, keys)
        reply = await self.ask(replica, group, Request(read=ReadRequest(group=group, keys=keys, stale=True)), timeout_s)
        answer = reply.read
        behind_ms = answer.behind_ms if answer.HasField("behind_ms") else None
        return ReadAnswer([row or None for row in answer.rows], answer.term, answer.log_time_ms, behind_ms)

    def _launch(self, leader: str, proposals: Sequence[Proposal]) -> None:
        """Begin attempts at one node, without waiting: many go in one tick or one frame.

        What stops one at once is told by its landing.
        """
        timeout_s = self._config.timeout_s(proposals[0].deadline - self._clock.now())
        if leader == self._node_id:
            self._launch_here(proposals, timeout_s)
        else:
            self._launch_elsewhere(leader, proposals, timeout_s)

    def _launch_here(self, proposals: Sequence[Proposal], timeout_s: float) -> None:
        tickets: list[asyncio.Future[Applied]] = []
        timer = asyncio.get_running_loop().call_later(timeout_s, give_up, tickets)
        for proposal in proposals:
            command = proposal.command
            try:
                ticket = append(self._groups, proposal.group, command, command.SerializeToString())
            except (NotLeader, AnchorOutOfRange, RingholdError) as error:
                proposal.landing = error
            else:
                tickets.append(ticket)
                proposal.landing = LandingHere(ticket, timer)
        if not tickets:
            timer.cancel()

    def _launch_elsewhere(self, leader: str, proposals: Sequence[Proposal], timeout_s: float) -> None:
        request = Request()
        groups, commands = request.propose.groups, request.propose.commands
        for proposal in proposals:
            groups.append(proposal.group)
            commands.append(proposal.command.SerializeToString())
        try:
            reply = self._exchange.request(leader, request, timeout_s)
        except RequestNotSent as error:
            for proposal in proposals:
                proposal.landing = error
            return
        for place, proposal in enumerate(proposals):
            proposal.landing = LandingElsewhere(reply, place)

    async def _outcome(self, proposal: Proposal) -> Applied:
        """What the attempt under way comes to. Raises a Refusal."""
        landing = proposal.landing
        if isinstance(landing, Exception):
            raise landing
        if isinstance(landing, LandingHere):
            try:
                applied = await landing.future
            except Deposed as error:
                raise RequestLost(str(error)) from error
            finally:
                landing.timer.cancel()
        else:
            applied = applied_by(await landing.future, landing.place, proposal.group)
            self._routes.heard(proposal.group, proposal.leader, applied.term, applied.log_time_ms, self._clock.now())
        check_in_window(applied, proposal.command)
        return applied

    async def _first_outcome(self, proposal: Proposal) -> Applied | Refusal:
        try:
            return await self._outcome(proposal)
        except REFUSALS as refusal:
            return refusal

    async def ask(self, node_id: str, group: int, request: Request, timeout_s: float) -> Reply:
        """A peer's reply. Raises what its failure stands for."""
        return succeeded(await self._exchange.request(node_id, request, timeout_s), group)


async def ended(proposals: Sequence[Proposal]) -> None:
    """Return when all attempts have ended; what they came to stays in their landings. Cancelled, it abandons them."""
    over = asyncio.Event()
    landings = (proposal.landing for proposal in proposals)
    when_done((landing.future for landing in landings if not isinstance(landing, Exception)), over.set)
    try:
        await over.wait()
    except asyncio.CancelledError:
        for proposal in proposals:
            proposal.abandon()
        raise


def when_done(futures: Iterator[asyncio.Future[Any]], then: Callable[[], object]) -> None:
    """Call `then` when all of them are done.

    One is waited for at a time: by then most others are done, for they share a tick or a message.
    """
    for future in futures:
        if not future.done():
            future.add_done_callback(lambda _: when_done(futures, then))
            return
    then()


def tells_of_loss(refusal: Exception | None) -> bool:
    """Whether a replica's answer says that it has no good copy."""
    return isinstance(refusal, DataLoss) or (isinstance(refusal, NotLeader) and refusal.is_lost)


def append(groups: Groups, group: int, command: Command, encoded: bytes) -> asyncio.Future[Applied]:
    """Have a command, and its encoding, appended here. The contract is on `Groups.propose`.

    To resolve a request is never refused for an anchor that is too old by this leader's clock: the next leader's may be
    behind it, and take the request after all. Only the log time of the entry that asks binds all leaders to come.
    """
    anchor_ms = command.anchor_ms
    if command.resolve and groups.hosts(group):
        anchor_ms = max(anchor_ms, groups.log_time_ms(group))
    return groups.propose(group, encoded, anchor_ms, max(1, len(command.mutations)), grows=grows(command))


def succeeded(reply: Reply, group: int) -> Reply:
    """The reply, unless it is a failure: then what that stands for is raised."""
    if reply.WhichOneof("body") == "failure":
        raise raised_by(reply.failure, group)
    return reply


def applied_by(reply: Reply, place: int, group: int) -> Applied:
    """The outcome of a command in a peer's reply. Raises what its failure stands for."""
    answer = succeeded(reply, group).propose
    outcome = answer.outcomes[place]
    if not outcome:
        raise raised_by(answer.failures[place], group)
    return Applied(outcome, answer.terms[place], answer.log_times_ms[place])


def check_in_window(applied: Applied, command: Command) -> None:
    """Raises AnchorOutOfRange for mutations that grew too old between their proposal and their entry: they did nothing.

    That says nothing of an earlier attempt, whose record may be gone already. To who resolves a request it is the
    answer.
    """
    in_window = command.anchor_ms >= applied.log_time_ms - DEDUPE_WINDOW_MS
    if not in_window and not command.resolve and Outcome.FromString(applied.outcome).verdict == VERDICT_EXPIRED:
        raise AnchorOutOfRange(applied.log_time_ms)


def give_up(tickets: Iterable[asyncio.Future[Applied]]) -> None:
    """The wait for own commits is over; the commands stay in the log, so this is doubt, not failure."""
    for ticket in tickets:
        if not ticket.done():
            ticket.set_exception(RequestLost("no commit in time"))


def raised_by(failure: Failure, group: int) -> Exception:
    """The exception that a peer's failure stands for."""
    details = dict(failure.metadata)
    if failure.reason == "NOT_LEADER":
        leader, term = details.get("leader") or None, int(details.get("term", "0"))
        return NotLeader(group, leader, term, is_lost="lost" in details)
    if failure.reason == "ANCHOR_OUT_OF_RANGE":
        return AnchorOutOfRange(int(details["log_time_ms"]))
    if failure.reason == "LOST":
        return RequestLost(failure.message)
    return error_for(failure.reason, failure.message, details)


def failure_of(error: Exception) -> Failure:
    """How an exception is told to the peer that asked; the inverse of `raised_by`."""
    match error:
        case NotLeader(leader=leader, term=term, is_lost=is_lost):
            metadata = {"leader": leader or "", "term": str(term), **({"lost": "true"} if is_lost else {})}
            return Failure(reason="NOT_LEADER", message=str(error), metadata=metadata)
        case AnchorOutOfRange(log_time_ms=log_time_ms):
            metadata = {"log_time_ms": str(log_time_ms)}
            return Failure(reason="ANCHOR_OUT_OF_RANGE", message=str(error), metadata=metadata)
        case RequestLost() | Deposed():
            return Failure(reason="LOST", message=str(error))
        case RingholdError():
            return Failure(reason=error.reason, message=error.message, metadata=error.details)
    raise error
