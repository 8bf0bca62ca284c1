"""All that changes the cluster from within one node, put together."""

from collections.abc import Callable, Coroutine
from typing import Any

from ...api.errors import RingholdError
from ...api.proto.ringhold.internal.v1.peer_pb2 import Reply, Request
from ...gossip.member import Member
from ..clock import Clock
from ..consensus.groups import Groups
from ..consensus.tickets import NotLeader
from ..founding import EventLog, Founding
from ..peers.exchange import Respond
from ..router import Router, failure_of
from ..snapshots.installer import InstallCounts
from ..supervisor import Supervisor
from ..topology_store import TopologyStore
from .admission import Admission
from .amendments import Amendments, Aside
from .departure import Departure
from .leftovers import Leftovers
from .mover import Mover, Surveyor
from .orders import Orders
from .placements import Placements


class Moving:
    """Admission, orders, the mover, this node's own departure, and what other nodes ask of it for these."""

    def __init__(
        self,
        node_id: str,
        groups: Groups,
        store: TopologyStore,
        router: Router,
        founding: Founding,
        members: Callable[[], tuple[Member, ...]],
        member: Callable[[str], Member | None],
        installs: InstallCounts,
        supervisor: Supervisor,
        clock: Clock,
        log: EventLog,
        aside: Aside,
        bytes_per_s: int,
    ) -> None:
        self._supervisor = supervisor
        self._placements = Placements(groups, store, installs)
        self.amendments = Amendments(groups, store, aside)
        self.surveyor = Surveyor(node_id, router, self._placements)
        self.admission = Admission(groups, store, self.amendments, members, clock, log)
        self.orders = Orders(self.amendments, self.surveyor, router, member, aside, bytes_per_s)
        self.departure = Departure(node_id, self.orders, store, founding, members, clock, log)

        def is_alive(of: str) -> bool:
            known = member(of)
            return known is not None and known.is_reachable

        self.mover = Mover(self.amendments, self.surveyor, is_alive, clock, log)
        self.leftovers = Leftovers(node_id, groups, store, router, clock)

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs as long as the node takes part, by name."""
        return {"admission": self.admission.run(), "mover": self.mover.run(), "leftovers": self.leftovers.run()}

    def wake(self) -> None:
        """Gossip or the topology has changed, or who leads the system group."""
        self.admission.wake()
        self.mover.wake()

    def serve(self, request: Request, respond: Respond) -> bool:
        """Answer a peer, now or later; False if the request is none of these."""
        match request.WhichOneof("body"):
            case "placement":
                respond(Reply(placement=self._placements.report()))
            case "configure":
                respond(Reply(configure=self._placements.configure(request.configure)))
            case "membership":
                respond(Reply(membership=self._placements.membership(request.membership)))
            case "change":
                self._supervisor.spawn("order of a peer", self._change(request, respond))
            case _:
                return False
        return True

    async def _change(self, request: Request, respond: Respond) -> None:
        try:
            respond(Reply(change=await self.orders.carry_out(request.change)))
        except (NotLeader, RingholdError) as error:
            respond(Reply(failure=failure_of(error)))
