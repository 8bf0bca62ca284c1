"""Who holds the groups that are led here, and one member more or less: what the mover asks for (DESIGN section 8.2).

The core decides whether a configuration may be appended now (4.1); here stands when one should be. See
docs/protocols/moves.md.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..clock import Clock
from .configuration import Configuration
from .core import Replica
from .handover import Handovers
from .tickets import Waiting
from .ticks import Ticks


class NotNow(Exception):
    """The change was not appended; the text says why."""


@dataclass(frozen=True, slots=True)
class LedGroup:
    """A group as its leader here knows it.

    `is_committed`: its configuration can't be undone any more, and this leader may change it. `dispensable`: the voters
    without whom a majority of the others is live and has caught up.
    """

    group: int
    configuration_index: int
    configuration: Configuration
    is_committed: bool
    dispensable: tuple[str, ...]


class Reconfiguring:
    """Over all replicas of this node. Every change names the configuration that it was made for."""

    def __init__(
        self, replicas: Mapping[int, Replica[Waiting]], handovers: Handovers, ticks: Ticks, clock: Clock
    ) -> None:
        self._replicas = replicas
        self._handovers = handovers
        self._ticks = ticks
        self._clock = clock

    def led(self) -> Iterator[LedGroup]:
        """The groups that are led here, as they are now."""
        now = self._clock.now()
        for group, replica in self._replicas.items():
            office = replica.office
            if office is not None and replica.is_healthy:
                yield LedGroup(
                    group,
                    replica.configuration_index,
                    replica.configuration,
                    replica.commit_index >= max(office.began_index, replica.configuration_index),
                    tuple(node for node in replica.configuration.voting_nodes if office.can_do_without(node, now)),
                )

    def add(self, group: int, node_id: str, expected_index: int) -> None:
        """Append a learner on a node. Raises NotNow."""
        replica = self._leading(group, expected_index)
        if node_id in replica.configuration.members:
            raise NotNow("the node is a member already")
        self._append(replica, replica.configuration.adding(node_id, replica.log.last_index + 1))

    def remove(self, group: int, node_id: str, expected_index: int) -> None:
        """Append that a member is one no longer; a leader hands over first. Raises NotNow."""
        replica, now = self._leading(group, expected_index), self._clock.now()
        assert replica.office is not None
        if node_id not in replica.configuration.members:
            raise NotNow("the node is no member")
        if not replica.office.can_do_without(node_id, now):
            raise NotNow("a majority of the others is not live, or has not caught up")
        if node_id == replica.node_id:
            self._handovers.hand_over(replica, now)
            self._ticks.settle(replica)
            raise NotNow("its leader hands over first")
        self._append(replica, replica.configuration.without(node_id))

    def removal_of(self, group: int, node_id: str, number: int) -> int:
        """The index of a committed configuration, newer than a replica, that does without it; 0: none is known here.

        The replica was added by the entry `number`, which is committed, or was there from the beginning (0); whoever
        is added again has another number. So what says so once says so for ever.
        """
        replica = self._replicas.get(group)
        if replica is None:
            return 0
        index, configuration = replica.configurations.applied
        is_member = configuration.numbers.get(node_id) == number
        return index if index > number and not is_member else 0

    def _leading(self, group: int, expected_index: int) -> Replica[Waiting]:
        replica = self._replicas.get(group)
        if replica is None or not replica.leads or not replica.is_healthy:
            raise NotNow("this node does not lead the group")
        if replica.configuration_index != expected_index:
            raise NotNow("the group's configuration is another one by now")
        return replica

    def _append(self, replica: Replica[Waiting], configuration: Configuration) -> None:
        if not replica.propose_configuration(configuration, replica.configuration_index, self._clock.now()):
            raise NotNow("a change is under way, or this term has not committed anything yet")
        self._ticks.settle(replica)
        self._ticks.touch(replica.group)
