"""Answers the requests of other nodes: the leader's side of what router and scatter ask for."""

import asyncio
from collections.abc import Callable
from functools import partial

from ..api.errors import RingholdError
from ..api.proto.ringhold.internal.v1.peer_pb2 import (
    DescribeReply,
    ProposeManyReply,
    ProposeManyRequest,
    ProposeReply,
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
from .consensus.tickets import AnchorOutOfRange, Applied, NotLeader, ReadAnswer
from .machine.machine import UnknownCommand
from .machine.records import parse_command
from .peers.exchange import RequestLost, Respond
from .router import append, failure_of
from .scatter import query_spec
from .shards import Shards
from .supervisor import Supervisor


class PeerService:
    """Serves peers. Reads are answered at once, commands when they are applied, queries when they are read."""

    def __init__(
        self, groups: Groups, shards: Shards, describe: Callable[[], DescribeReply], supervisor: Supervisor
    ) -> None:
        self._groups = groups
        self._shards = shards
        self._describe = describe
        self._supervisor = supervisor

    def serve(self, request: Request, respond: Respond) -> None:
        """The contract is on `RequestServer`."""
        try:
            match request.WhichOneof("body"):
                case "read":
                    self._read(request, respond)
                case "propose":
                    self._propose(request.propose, respond)
                case "propose_many":
                    self._propose_many(request.propose_many, respond)
                case "query":
                    self._supervisor.spawn("query of a peer", self._query(request.query, respond))
                case "describe":
                    respond(Reply(describe=self._describe()))
                case _:
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
        command = proposed(request)

        def answer(ticket: "asyncio.Future[Applied]") -> None:
            error = ticket.exception()
            if error is not None:
                assert isinstance(error, Exception)
                respond(Reply(failure=failure_of(error)))
                return
            applied = ticket.result()
            reply = ProposeReply(outcome=applied.outcome, term=applied.term, log_time_ms=applied.log_time_ms)
            respond(Reply(propose=reply))

        ticket = append(self._groups, request.group, command, request.command)
        ticket.add_done_callback(answer)

    def _propose_many(self, request: ProposeManyRequest, respond: Respond) -> None:
        """Answer when the last of the commands is answered."""
        replies: dict[int, Reply] = {}
        wanted = len(request.proposals)

        def take(position: int, reply: Reply) -> None:
            replies[position] = reply
            if len(replies) == wanted:
                in_order = [replies[each] for each in range(wanted)]
                respond(Reply(propose_many=ProposeManyReply(replies=in_order)))

        for position, proposal in enumerate(request.proposals):
            try:
                self._propose(proposal, partial(take, position))
            except (NotLeader, AnchorOutOfRange, RingholdError) as error:
                take(position, Reply(failure=failure_of(error)))

    async def _query(self, request: QueryRequest, respond: Respond) -> None:
        query = self._shards.query_stale if request.stale else self._shards.query
        try:
            answer, refused, behind_ms, lost = await query(request.groups, query_spec(request))
        except RingholdError as error:
            respond(Reply(failure=failure_of(error)))
            return
        reply = QueryReply(
            cut=answer.cut,
            refused=refused,
            leaders=[self._groups.leader(group)[0] or "" for group in refused],
            behind_ms=behind_ms,
            lost=lost,
        )
        add = reply.matches.add  # in its place: a match that is made beside the reply would be copied
        for pair, row in answer.matches:
            add(pair=pair, row=row)
        respond(Reply(query=reply))


def read_reply(answer: ReadAnswer) -> ReadReply:
    rows = [row or b"" for row in answer.rows]
    return ReadReply(rows=rows, term=answer.term, log_time_ms=answer.log_time_ms, behind_ms=answer.behind_ms)


def proposed(request: ProposeRequest) -> Command:
    """The command in a peer's request. Raises RingholdError for one that must not get into a log.

    A command that can't be read would stop every replica.
    """
    if request.group == SYSTEM_GROUP:
        raise RingholdError("UNKNOWN_REQUEST", "the system group takes no commands of peers")
    try:
        command = parse_command(request.command)
    except UnknownCommand as error:
        raise RingholdError("UNKNOWN_REQUEST", f"this node can't carry it out: {error}") from error
    if command.anchor_ms != request.anchor_ms:
        raise RingholdError("UNKNOWN_REQUEST", "the anchors of the request and of its command differ")
    return command
