"""Answers the requests of other nodes: the leader's side of what router and scatter ask for."""

import asyncio
from collections.abc import Callable, Sequence

from ..api.errors import RingholdError
from ..api.proto.ringhold.internal.v1.peer_pb2 import (
    DescribeReply,
    ProposeRequest,
    QueryReply,
    QueryRequest,
    ReadReply,
    Reply,
    Request,
)
from ..api.proto.ringhold.storage.v1.records_pb2 import Command
from ..ring.topology import SYSTEM_GROUP
from .consensus.groups import Groups
from .consensus.tickets import AnchorOutOfRange, Applied, Deposed, NotLeader, ReadAnswer
from .machine.machine import UnknownCommand
from .machine.records import parse_command
from .peers.exchange import RequestLost, Respond
from .router import append, failure_of, when_done
from .scatter import query_spec
from .shards import Shards
from .supervisor import Supervisor

NOT_APPLIED = Applied(b"", 0, 0)
"""In a reply, in the place of a command that failed."""


class PeerService:
    """Serves peers. Reads are answered at once, commands when they are applied, queries when they are read."""

    def __init__(
        self,
        groups: Groups,
        shards: Shards,
        describe: Callable[[], DescribeReply],
        supervisor: Supervisor,
        others: Callable[[Request, Respond], bool] = lambda request, respond: False,
    ) -> None:
        """`others` serves what is not about records, and says whether it knew the request."""
        self._groups = groups
        self._shards = shards
        self._describe = describe
        self._supervisor = supervisor
        self._others = others

    def serve(self, request: Request, respond: Respond) -> None:
        """The contract is on `RequestServer`."""
        try:
            match request.WhichOneof("body"):
                case "read":
                    self._read(request, respond)
                case "propose":
                    self._propose(request.propose, respond)
                case "query":
                    self._supervisor.spawn("query of a peer", self._query(request.query, respond))
                case "describe":
                    respond(Reply(describe=self._describe()))
                case _:
                    if not self._others(request, respond):
                        raise RingholdError("UNKNOWN_REQUEST", "this node does not know this kind of request")
        except (NotLeader, AnchorOutOfRange, RingholdError) as error:
            respond(Reply(failure=failure_of(error)))

    def _read(self, request: Request, respond: Respond) -> None:
        """Answer at once, unless this node leads and must have that confirmed first."""
        group, keys = request.read.group, request.read.keys
        if request.read.stale:
            respond(Reply(read=read_reply(self._groups.read_stale(group, keys))))
        elif self._groups.is_leader(group) and not self._groups.leads(group):
            self._supervisor.spawn("read to be confirmed", self._read_confirmed(request, respond))
        else:
            respond(Reply(read=read_reply(self._groups.read(group, keys))))

    async def _read_confirmed(self, request: Request, respond: Respond) -> None:
        try:
            async with asyncio.timeout(request.timeout_ms / 1000):
                await self._groups.confirm(request.read.group)
            respond(Reply(read=read_reply(self._groups.read_confirmed(request.read.group, request.read.keys))))
        except TimeoutError:
            respond(Reply(failure=failure_of(RequestLost("no majority has confirmed this leader in time"))))
        except (NotLeader, RingholdError) as error:
            respond(Reply(failure=failure_of(error)))

    def _propose(self, request: ProposeRequest, respond: Respond) -> None:
        """Answer when the last of the commands is answered."""
        groups, commands = request.groups, request.commands
        if len(groups) != len(commands):
            raise RingholdError("UNKNOWN_REQUEST", "each command needs a group")
        tickets = list(map(self._appended, groups, commands))
        when_done(iter(tickets), lambda: respond(propose_reply(tickets)))

    def _appended(self, group: int, encoded: bytes) -> "asyncio.Future[Applied]":
        """The outcome to be of a peer's command; the future also raises what is wrong with it."""
        try:
            return append(self._groups, group, proposed(group, encoded), encoded)
        except (NotLeader, AnchorOutOfRange, RingholdError) as error:
            refused: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    async def _query(self, request: QueryRequest, respond: Respond) -> None:
        query = self._shards.query_stale if request.stale else self._shards.query
        try:
            answer, refused, behind_ms, lost = await query(request.groups, query_spec(request))
        except RingholdError as error:
            respond(Reply(failure=failure_of(error)))
            return
        reply = QueryReply(
            pairs=[pair for pair, _ in answer.matches],
            rows=[row for _, row in answer.matches] if request.with_records else (),
            cut=answer.cut,
            refused=refused,
            leaders=[self._groups.leader(group)[0] or "" for group in refused],
            behind_ms=behind_ms,
            lost=lost,
        )
        respond(Reply(query=reply))


def read_reply(answer: ReadAnswer) -> ReadReply:
    rows = [row or b"" for row in answer.rows]
    return ReadReply(rows=rows, term=answer.term, log_time_ms=answer.log_time_ms, behind_ms=answer.behind_ms)


def propose_reply(tickets: "Sequence[asyncio.Future[Applied]]") -> Reply:
    """What became of a peer's commands: all of the tickets are done."""
    reply = Reply()
    answer = reply.propose
    outcomes, terms, log_times_ms = answer.outcomes, answer.terms, answer.log_times_ms
    for place, ticket in enumerate(tickets):
        try:
            applied = ticket.result()
        except (NotLeader, Deposed, AnchorOutOfRange, RingholdError) as error:
            answer.failures[place].CopyFrom(failure_of(error))
            applied = NOT_APPLIED
        outcomes.append(applied.outcome)
        terms.append(applied.term)
        log_times_ms.append(applied.log_time_ms)
    return reply


def proposed(group: int, encoded: bytes) -> Command:
    """A peer's command. Raises RingholdError for one that must not get into a log.

    A command that can't be read would stop every replica.
    """
    if group == SYSTEM_GROUP:
        raise RingholdError("UNKNOWN_REQUEST", "the system group takes no commands of peers")
    try:
        command = parse_command(encoded)
    except UnknownCommand as error:
        raise RingholdError("UNKNOWN_REQUEST", f"this node can't carry it out: {error}") from error
    if not command.anchor_ms:
        raise RingholdError("UNKNOWN_REQUEST", "this node can't carry it out: a command without an anchor")
    return command
