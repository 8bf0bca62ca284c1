"""Machines that come and go for good, and orders of operators, in the middle of everything else that goes wrong.

Orders go to whichever node serves, as a client's do, and are repeated until they are taken; what follows from one is
waited for, but not for ever: crashes, partitions and other orders come in between.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ringhold.api.errors import RingholdError
from ringhold.api.proto.ringhold.v1.cluster_pb2 import Change, ChangeRequest
from ringhold.node.storage.engine import EngineFailed
from ringhold.ring.topology import NodeState, Topology

from .health import leader_of
from .loop import within
from .machines import PARTITIONS, Machine
from .trace import Trace

MEMBERS_MIN = 4
"""One of so many may leave: three copies of everything must be left, for disks are hurt meanwhile."""

MEMBERS_MAX = 5
ORDER_S_MAX = 5.0
ORDERED_S_MAX = 20.0
"""How long an order is repeated until it is taken."""

LEAVING_S_MAX = 40.0
KEEP_CHANCE = 0.3
REPLICATION_FACTORS = (3, 3, 4, 5)


class RingChanges:
    """Orders changes. `fresh(name)` makes a machine that has never run, of a node of that name, or of its own."""

    def __init__(
        self,
        machines: list[Machine],
        fresh: Callable[[str], Machine],
        rng: random.Random,
        trace: Trace,
        accuse: Callable[[str], None],
    ) -> None:
        self._accuse = accuse
        self._machines = machines
        self._fresh = fresh
        self._rng = rng
        self._trace = trace
        self._is_leaving = False
        self._kinds: Mapping[Callable[[], Coroutine[Any, Any, None]], int] = {
            self.join: 4,
            self.leave: 6,
            self._cordon: 1,
            self._other_replication_factor: 1,
        }

    def any_change(self) -> Coroutine[Any, Any, None]:
        """One of the changes, which comes if the cluster's size allows it."""
        (change,) = self._rng.choices(list(self._kinds), weights=list(self._kinds.values()))
        return change()

    async def join(self, called: str = "") -> None:
        """One more machine; or one that takes the name of a node that is dead for good."""
        if called or len(self._machines) < MEMBERS_MAX:
            machine = self._fresh(called)
            self._note("one more machine", f"{machine.name}, called {machine.called or machine.name}")
            self._machines.append(machine)
            machine.boot()

    async def leave(self) -> None:
        """A node is told to leave for good; when it is out its machine is taken away. Some orders are taken back."""
        machine = self.who_may_leave()
        if machine is not None:
            await self.let_leave(machine)

    def who_may_leave(self) -> Machine | None:
        """A machine without which enough are left; None if there is none."""
        able = [machine for machine in self._machines if not machine.is_hurt and state_of(machine) is NodeState.NORMAL]
        return None if self._is_leaving or len(able) < MEMBERS_MIN else self._rng.choice(able)

    async def let_leave(self, machine: Machine) -> None:
        self._is_leaving = True
        self._note("decommission", machine.name)
        await self.order(Change(decommission=machine.called or machine.name))
        if self._rng.random() < KEEP_CHANCE:
            await asyncio.sleep(self._rng.uniform(0, 3))
            self._note("decommission taken back", machine.name)
            await self.order(Change(keep=machine.called or machine.name))
        elif await within(LEAVING_S_MAX, lambda: self.is_out(machine)):
            self.check_nothing_left(machine)
        self.take_away_who_is_out()
        self._is_leaving = False

    def check_nothing_left(self, machine: Machine) -> None:
        """REMOVED only when no committed configuration names the node (DESIGN 8.3)."""
        for group in range(PARTITIONS + 1):
            leader = leader_of(group, self._machines)
            if leader is not None and machine.node_id in leader.configuration.members:
                self._accuse(f"{machine.name} is out, and still a member of group {group}: {leader.configuration}")

    async def remove(self, machine: Machine) -> None:
        """A machine that is gone for good is said to be so, once it is known to be dead."""
        self._note("removal", machine.name)
        await self.order(Change(remove=machine.called or machine.name))

    def take_away_who_is_out(self) -> None:
        """Machines whose nodes have left are switched off: their processes would have ended by themselves."""
        for machine in [each for each in self._machines if self.is_out(each)]:
            self._trace.count("node left for good")
            self._trace.note("nemesis", f"{machine.name} is out")
            if machine.is_up:
                machine.die(0.0, silently=False)
            machine.is_gone = True
            self._machines.remove(machine)

    async def _cordon(self) -> None:
        machine = self._rng.choice(self._machines)
        self._note("cordon", machine.name)
        await self.order(Change(cordon=machine.called or machine.name))
        await asyncio.sleep(self._rng.uniform(1, 6))
        await self.order(Change(uncordon=machine.called or machine.name))

    async def _other_replication_factor(self) -> None:
        number = self._rng.choice(REPLICATION_FACTORS)
        self._note("replication factor", str(number))
        await self.order(Change(replication_factor=number))

    async def order(self, change: Change) -> bool:
        """Give an order until it is taken or refused; whether it was taken in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ORDERED_S_MAX
        while loop.time() < end:
            answer = await self._ordered_once(change)
            if answer is not None:
                return answer
            await asyncio.sleep(0.5)
        return False

    async def _ordered_once(self, change: Change) -> bool | None:
        """Whether the order was taken; None: nobody knows."""
        able = [machine for machine in self._machines if machine.is_ready]
        if not able:
            return None
        machine = self._rng.choice(able)
        life, node = machine.life, machine.node
        assert life is not None
        assert node is not None
        request = ChangeRequest(changes=[change])
        answer = life.run(asyncio.ensure_future, node.moving.orders.change(request, machine.clock.now() + ORDER_S_MAX))
        if not await within(ORDER_S_MAX * 2, lambda: life.is_over or answer.done()) or not answer.done():
            return None
        try:
            answer.result()
        except RingholdError as error:
            return False if error.reason in {"CHANGE_REFUSED", "NODE_UNKNOWN"} else None
        except EngineFailed as error:
            node.supervisor.report("order", error)  # as the faces' guard does
            return None
        self._trace.count("order taken")
        return True

    def is_out(self, machine: Machine) -> bool:
        topology = newest(self._machines)
        node = topology.node(machine.node_id) if topology else None
        return node is not None and node.state is NodeState.REMOVED

    def _note(self, kind: str, what: str) -> None:
        self._trace.count(f"fault: {kind}")
        self._trace.note("nemesis", f"{kind}: {what}")


def newest(machines: list[Machine]) -> Topology | None:
    """The newest topology that any running node has adopted."""
    known = [machine.node.store.current for machine in machines if machine.node is not None]
    return max((topology for topology in known if topology), key=lambda each: each.epoch, default=None)


def state_of(machine: Machine) -> NodeState | None:
    """What a running node believes of itself."""
    topology = machine.node.store.current if machine.node is not None else None
    node = topology.node(machine.node_id) if topology else None
    return node.state if node else None
