"""How the replicas of a partition spread over zones and hosts.

Losing a zone or a host must cost a partition as few replicas as possible. So zones are used evenly; where the zones
don't decide, hosts are. Each replica has a cost, (replicas before it in its zone, on its host), and a partition
takes the cheapest ones: those below the dearest cost taken are a must, those at it are a choice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain
from typing import TypeAlias

from .topology import NodeRecord

Cost: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """The fewest and the most replicas of one partition in each place, and how many the fewest make together."""

    spans: Mapping[int, tuple[int, int]]
    required: int

    @staticmethod
    def cheapest(costs: Mapping[int, Sequence[Cost]], count: int) -> "Rule":
        """The rule that takes the `count` cheapest replicas, given each place's costs in ascending order."""
        dearest = nsmallest(count, chain.from_iterable(costs.values()))[-1]
        spans = {
            place: (sum(cost < dearest for cost in ascending), sum(cost <= dearest for cost in ascending))
            for place, ascending in costs.items()
        }
        if sum(most for _, most in spans.values()) == count:
            spans = {place: (most, most) for place, (_, most) in spans.items()}
        return Rule(spans, sum(fewest for fewest, _ in spans.values()))

    def allows(self, counts: Mapping[int, int], missing: int) -> bool:
        """Whether places may have these counts when `missing` replicas are still to come."""
        required = self.required
        for place, count in counts.items():
            fewest, most = self.spans[place]
            if count > most:
                return False
            required -= min(count, fewest)
        return required <= missing


@dataclass(frozen=True, slots=True)
class Spread:
    """The rules for partitions that some of the nodes may hold. Nodes, zones and hosts are known by their numbers."""

    replicas: int
    zone_of: Sequence[int]
    host_of: Sequence[int]
    zones: Rule
    hosts: Mapping[tuple[int, int], Rule]
    """By zone and the number of a partition's replicas in it."""

    elastic: frozenset[int]
    """The zones in which one full partition may have more replicas than another."""

    free: bool
    """Whether any distinct nodes will do."""

    @staticmethod
    def over(nodes: Sequence[NodeRecord], replicas: int, candidates: Sequence[int] | None = None) -> "Spread":
        """The rules for partitions with `replicas` replicas, at most one per node. A host's name counts in its zone.

        `candidates` are the positions of the nodes that may hold one, all if None.
        """
        candidates = range(len(nodes)) if candidates is None else candidates
        assert 1 <= replicas <= len(candidates), (replicas, len(candidates))
        zone_of = _numbered([node.zone for node in nodes])
        host_of = _numbered([(node.zone, node.host) for node in nodes])
        hosts = Counter((zone_of[node], host_of[node]) for node in candidates)
        host_sizes = _host_sizes(hosts, replicas)
        zones = Rule.cheapest({zone: _zone_costs(sizes, replicas) for zone, sizes in host_sizes.items()}, replicas)
        return Spread(
            replicas,
            zone_of,
            host_of,
            zones,
            {
                (zone, count): Rule.cheapest({host: _host_costs(size) for host, size in sizes.items()}, count)
                for zone, sizes in host_sizes.items()
                for count in range(max(zones.spans[zone][0], 1), zones.spans[zone][1] + 1)
            },
            elastic=frozenset(zone for zone, (fewest, most) in zones.spans.items() if fewest < most),
            free=replicas == 1 or (len(host_sizes) == 1 and max(hosts.values()) == 1),
        )

    def allows(self, replicas: Sequence[int]) -> bool:
        """Whether a partition may lie on these nodes, and those missing to its full number can be added."""
        if self.free:
            return True
        needed = self.zones.required
        for zone, present in Counter([self.zone_of[node] for node in replicas]).items():
            final = self._least_final(zone, present, replicas)
            if final is None:
                return False
            needed += final - present - self.zones.spans[zone][0]
        return needed <= self.replicas - len(replicas)

    def allows_exchange(self, replicas: Sequence[int], old: int, new: int) -> bool:
        """Whether a partition that lies where it may can have `new` in the place of `old`."""
        if self.free:
            return True
        left, entered = self.zone_of[old], self.zone_of[new]
        if left != entered and len(replicas) == self.replicas and not self.elastic.issuperset((left, entered)):
            return False
        return self.allows([new if node == old else node for node in replicas])

    def _least_final(self, zone: int, present: int, replicas: Sequence[int]) -> int | None:
        """The least number of replicas in a zone that the present ones can grow to by its hosts' rules."""
        fewest, most = self.zones.spans[zone]
        finals = range(max(fewest, present), most + 1)
        if present == 1 and finals:
            return finals[0]
        hosts = Counter([self.host_of[node] for node in replicas if self.zone_of[node] == zone])
        return next((final for final in finals if self.hosts[zone, final].allows(hosts, final - present)), None)

    def legal_part(self, nodes: Iterable[int]) -> list[int]:
        """Of these nodes, the first ones on which a partition may lie."""
        part: list[int] = []
        for node in nodes:
            if node not in part and len(part) < self.replicas and self.allows([*part, node]):
                part.append(node)
        return part

    def zone_span(self, zone: int) -> tuple[int, int]:
        """The fewest and the most replicas of one partition in a zone."""
        return self.zones.spans.get(zone, (0, 0))

    def host_spans(self, zone: int, count: int) -> Mapping[int, tuple[int, int]]:
        """The fewest and the most replicas on each host of a partition that has `count` of them in the zone."""
        return self.hosts[zone, count].spans if count else {}


def _numbered(names: Sequence[object]) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def _host_sizes(hosts: Mapping[tuple[int, int], int], size_max: int) -> dict[int, dict[int, int]]:
    """Zone to host to the number of its nodes, as far as a partition can use them."""
    sizes: dict[int, dict[int, int]] = {}
    for (zone, host), size in hosts.items():
        sizes.setdefault(zone, {})[host] = min(size_max, size)
    return sizes


def _host_costs(size: int) -> list[Cost]:
    return [(before, 0) for before in range(size)]


def _zone_costs(host_sizes: Mapping[int, int], replicas: int) -> list[Cost]:
    on_hosts = nsmallest(replicas, chain.from_iterable(range(size) for size in host_sizes.values()))
    return list(enumerate(on_hosts))
