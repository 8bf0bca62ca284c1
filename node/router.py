"""Brings one operation to the leader of its group, wherever that is, and back, within the caller's deadline.

Every attempt has its own timeout, and the next one goes elsewhere if it found no leader. An attempt that may have
reached one leaves a mutation in doubt, and only a logged outcome ends that doubt: the same command is repeated, with
its request_id, until there is one (P3).
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from ..api.errors import DataLoss, RingholdError, Unavailable, error_for
from ..api.proto.ringhold.internal.v1.peer_pb2 import (
    Failure,
    ProposeManyRequest,
    ProposeRequest,
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

PROPOSALS_PER_REQUEST_MAX = 64
"""Commands of a batch in one request: the node that gets it takes them all in one callback (P8)."""


class LandingHere(NamedTuple):
    """An attempt at this node: the command is in the log's open entry, and given up on by a timer."""

    ticket: asyncio.Future[Applied]
    timer: asyncio.TimerHandle


class LandingElsewhere(NamedTuple):
    """An attempt at another node."""

    leader: str
    reply: asyncio.Future[Reply]
    position: int | None = None
    """Among the replies, if several commands share the request."""


Landing: TypeAlias = LandingHere | LandingElsewhere | Exception
"""An attempt under way, or what stopped it before it began."""


@dataclass(slots=True)
class Proposal:
    """A command whose first attempt is under way. `chosen_here`: its anchor is the gateway's choice."""

    group: int
    command: Command
    chosen_here: bool
    attempts: Attempts
    landing: Landing | None = None

    async def landed(self) -> bool:
        """Return when the first attempt has ended: whether it gave an outcome, so that `finish` need not wait."""
        match self.landing:
            case LandingHere(ticket, _):
                await ended(ticket)
                return succeeds(ticket)
            case LandingElsewhere(_, reply, position):
                await ended(reply)
                return succeeds(reply) and is_outcome(reply.result(), position)
        return False

    def abandon(self) -> None:
        """Nobody waits for the outcome any more; the attempt under way may still take effect."""
        match self.landing:
            case LandingHere(ticket, timer):
                ticket.cancel()
                timer.cancel()
            case LandingElsewhere(_, reply, _):
                reply.cancel()


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
        if self._groups.leads(group):
            with suppress(NotLeader):  # the rows turn out to be damaged: others have them
                return self._groups.read(group, keys)
        attempts = self._attempts(group, deadline)
        while True:
            try:
                return await self._read_once(self._aim(group, attempts), group, keys, attempts.timeout_s())
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
        if self._groups.is_leader(group) and self._groups.term(group) >= self._routes.get(group).term:
            return self._node_id
        routed = self._routes.leader(group)
        if reaches(routed):
            return routed
        self._routes.passed_over(group, routed, reaches)
        return self._routes.leader(group)

    async def propose(self, group: int, command: Command, deadline: float) -> Applied:
        """The outcome of a command: `begin` and `finish` in one."""
        return await self.finish(self.begin(group, command, deadline))

    def begin(self, group: int, command: Command, deadline: float) -> Proposal:
        """Send a command on its way, without waiting, so that many go in one frame or one tick. Each must be finished.

        Without an anchor it gets one here: it is the same in every attempt that counts.
        """
        proposal = self._proposal(group, command, deadline)
        proposal.landing = self._launch(proposal)
        return proposal

    def begin_many(self, commands: Iterable[tuple[int, Command]], deadline: float) -> list[Proposal]:
        """`begin` for many (group, command), in their order; those for one node share a request, and land together."""
        proposals = [self._proposal(group, command, deadline) for group, command in commands]
        elsewhere: dict[str, list[Proposal]] = {}
        for proposal in proposals:
            leader = self._aim(proposal.group, proposal.attempts)
            if leader == self._node_id:
                proposal.landing = self._launch(proposal)
            else:
                elsewhere.setdefault(leader, []).append(proposal)
        for leader, some in elsewhere.items():
            for start in range(0, len(some), PROPOSALS_PER_REQUEST_MAX):
                self._launch_many(leader, some[start : start + PROPOSALS_PER_REQUEST_MAX])
        return proposals

    def _proposal(self, group: int, command: Command, deadline: float) -> Proposal:
        chosen_here = not command.anchor_ms
        if chosen_here:
            command.anchor_ms = self._anchor(group)
        return Proposal(group, command, chosen_here, self._attempts(group, deadline, command))

    async def finish(self, proposal: Proposal) -> Applied:
        """The outcome of a command, after as many attempts as its deadline allows.

        Raises Unavailable or Overloaded if certainly nothing was applied, InDoubt if that is uncertain, InvalidRequest.
        Who resolves a request is never in doubt: that can be repeated.
        """
        attempts, command = proposal.attempts, proposal.command
        landing: Landing | None = proposal.landing
        while True:
            try:
                applied = await self._land(proposal, landing or self._launch(proposal))
                check_in_window(applied, command)
                return applied
            except (NotLeader, RequestNotSent, RequestLost, Unavailable) as error:
                await attempts.failed(error)
            except RingholdError as error:
                if not attempts.in_doubt and "moving" not in error.details:
                    raise
                await attempts.failed(error)  # what this attempt met says nothing of an earlier one, nor of a next
            except AnchorOutOfRange as error:
                if attempts.in_doubt or not proposal.chosen_here:
                    raise attempts.expired(error) from error
                command.anchor_ms = error.log_time_ms
            landing = None

    def _attempts(self, group: int, deadline: float, command: Command | None = None) -> Attempts:
        return Attempts(self._clock, self._rng, self._routes, self.reaches, self._config, group, deadline, command)

    def _aim(self, group: int, attempts: Attempts) -> str:
        attempts.aimed_at = self.aim(group)
        return attempts.aimed_at

    def _anchor(self, group: int) -> int:
        """The log time of the group, as far as is known; never 0, which a repetition would take for no anchor."""
        if self._groups.leads(group):
            return self._groups.log_time_ms(group)
        return max(1, self._routes.get(group).log_time_at(self._clock.now()))

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

    def _launch(self, proposal: Proposal) -> Landing:
        """Begin an attempt at the leader that is known, here or elsewhere; what stops it at once is told on landing."""
        group, command = proposal.group, proposal.command
        timeout_s = proposal.attempts.timeout_s()
        leader = self._aim(group, proposal.attempts)
        try:
            if leader == self._node_id:
                ticket = append(self._groups, group, command, command.SerializeToString())
                return LandingHere(ticket, asyncio.get_running_loop().call_later(timeout_s, give_up, ticket))
            request = Request(propose=propose_request(proposal))
            return LandingElsewhere(leader, self._exchange.request(leader, request, timeout_s))
        except (NotLeader, RequestNotSent, AnchorOutOfRange, RingholdError) as error:
            return error

    def _launch_many(self, leader: str, proposals: Sequence[Proposal]) -> None:
        """Begin the first attempts at commands that one other node is to carry out."""
        bodies = [propose_request(proposal) for proposal in proposals]
        timeout_s = min(proposal.attempts.timeout_s() for proposal in proposals)
        request = Request(propose_many=ProposeManyRequest(proposals=bodies))
        try:
            reply = self._exchange.request(leader, request, timeout_s)
        except RequestNotSent as error:
            for proposal in proposals:
                proposal.landing = error
            return
        for position, proposal in enumerate(proposals):
            proposal.landing = LandingElsewhere(leader, reply, position)

    async def _land(self, proposal: Proposal, landing: Landing) -> Applied:
        """What became of an attempt."""
        if isinstance(landing, Exception):
            raise landing
        if isinstance(landing, LandingHere):
            try:
                return await landing.ticket
            except Deposed as error:
                raise RequestLost(str(error)) from error
            finally:
                landing.timer.cancel()
        reply = succeeded(await landing.reply, proposal.group)
        if landing.position is not None:
            reply = succeeded(reply.propose_many.replies[landing.position], proposal.group)
        answer = reply.propose
        self._routes.heard(proposal.group, landing.leader, answer.term, answer.log_time_ms, self._clock.now())
        return Applied(answer.outcome, answer.term, answer.log_time_ms)

    async def ask(self, node_id: str, group: int, request: Request, timeout_s: float) -> Reply:
        """A peer's reply. Raises what its failure stands for."""
        return succeeded(await self._exchange.request(node_id, request, timeout_s), group)


async def ended(attempt: asyncio.Future[Any]) -> None:
    """Return when the future is done, and leave its result or exception in it."""
    if not attempt.done():
        over = asyncio.Event()
        attempt.add_done_callback(lambda _: over.set())
        await over.wait()


def succeeds(attempt: asyncio.Future[Any]) -> bool:
    return not attempt.cancelled() and attempt.exception() is None


def is_outcome(reply: Reply, position: int | None) -> bool:
    """Whether a reply to one or many proposals holds an outcome for the one at `position`."""
    if position is None:
        return reply.HasField("propose")
    return reply.HasField("propose_many") and reply.propose_many.replies[position].HasField("propose")


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


def propose_request(proposal: Proposal) -> ProposeRequest:
    command = proposal.command
    return ProposeRequest(group=proposal.group, command=command.SerializeToString(), anchor_ms=command.anchor_ms)


def succeeded(reply: Reply, group: int) -> Reply:
    """The reply, unless it is a failure: then what that stands for is raised."""
    if reply.WhichOneof("body") == "failure":
        raise raised_by(reply.failure, group)
    return reply


def check_in_window(applied: Applied, command: Command) -> None:
    """Raises AnchorOutOfRange for mutations that grew too old between their proposal and their entry: they did nothing.

    That says nothing of an earlier attempt, whose record may be gone already. To who resolves a request it is the
    answer.
    """
    in_window = command.anchor_ms >= applied.log_time_ms - DEDUPE_WINDOW_MS
    if not in_window and not command.resolve and Outcome.FromString(applied.outcome).verdict == VERDICT_EXPIRED:
        raise AnchorOutOfRange(applied.log_time_ms)


def give_up(ticket: asyncio.Future[Applied]) -> None:
    """The wait for an own commit is over; the command stays in the log, so this is doubt, not failure."""
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
