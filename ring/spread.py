"""How the replicas of a partition spread over zones and hosts, and what share of all replicas that leaves each node.

Losing a zone or a host must cost a partition as few replicas as possible. So zones are used evenly; where the zones
don't decide, hosts are. Each replica has a cost, (replicas before it in its zone, on its host), and a partition
takes the cheapest ones: those below the dearest cost taken are a must, those at it are a choice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import nsmallest
from itertools import chain
from math import floor
from typing import TypeAlias

from .topology import NodeRecord

Cost: TypeAlias = tuple[int, int]
Amount: TypeAlias = int | Fraction
Span: TypeAlias = tuple[Amount, Amount]
"""The fewest and the most."""


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
    """The rules of one set of nodes, which are known by their position. Zones and hosts are numbered too."""

    replicas: int
    zone_of: Sequence[int]
    host_of: Sequence[int]
    zones: Rule
    hosts: Mapping[tuple[int, int], Rule]
    """By zone and the number of a partition's replicas in it."""

    free: bool
    """Whether any distinct nodes will do."""

    @staticmethod
    def over(nodes: Sequence[NodeRecord], replicas: int) -> "Spread":
        """The rules for partitions with `replicas` replicas, at most one per node. A host's name counts in its zone."""
        assert 1 <= replicas <= len(nodes), (replicas, len(nodes))
        zone_of = _numbered([node.zone for node in nodes])
        host_of = _numbered([(node.zone, node.host) for node in nodes])
        host_sizes = _host_sizes(zone_of, host_of, replicas)
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
            free=replicas == 1 or (len(host_sizes) == 1 and max(Counter(host_of).values()) == 1),
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

    def _least_final(self, zone: int, present: int, replicas: Sequence[int]) -> int | None:
        """The least number of replicas in a zone that the present ones can grow to by its hosts' rules."""
        fewest, most = self.zones.spans[zone]
        finals = range(max(fewest, present), most + 1)
        if present == 1 and finals:
            return finals[0]
        hosts = Counter([self.host_of[node] for node in replicas if self.zone_of[node] == zone])
        return next((final for final in finals if self.hosts[zone, final].allows(hosts, final - present)), None)

    def shares(self, weights: Sequence[int]) -> list[Fraction]:
        """Each node's fair number of replicas per partition: by weight, as far as the rules let it."""
        by_zone = _grouped(range(len(weights)), self.zone_of)
        of_zones = self._divided(by_zone, weights, self.zones.spans, Fraction(self.replicas))
        shares = [Fraction(0)] * len(weights)
        for zone, members in by_zone.items():
            by_host = _grouped(members, self.host_of)
            of_hosts = self._divided(by_host, weights, self._host_spans(zone, by_host, of_zones[zone]), of_zones[zone])
            for host, mates in by_host.items():
                own = fair_shares([weights[node] for node in mates], [(0, 1)] * len(mates), of_hosts[host])
                for node, share in zip(mates, own, strict=True):
                    shares[node] = share
        return shares

    def _host_spans(self, zone: int, hosts: Iterable[int], share: Fraction) -> dict[int, Span]:
        """The spans of a zone's hosts when some partitions have floor(share) replicas in it and some one more."""
        count, part = floor(share), share - floor(share)
        below, above = self._host_rule(zone, count), self._host_rule(zone, count + (part > 0))
        return {host: _mixed(below.get(host, (0, 0)), above.get(host, (0, 0)), part) for host in hosts}

    def _host_rule(self, zone: int, count: int) -> Mapping[int, tuple[int, int]]:
        return self.hosts[zone, count].spans if count else {}

    @staticmethod
    def _divided(
        places: Mapping[int, Sequence[int]], weights: Sequence[int], spans: Mapping[int, Span], total: Fraction
    ) -> dict[int, Fraction]:
        place_weights = [sum(weights[node] for node in members) for members in places.values()]
        divided = fair_shares(place_weights, [spans[place] for place in places], total)
        return dict(zip(places, divided, strict=True))


def fair_shares(weights: Sequence[int], spans: Sequence[Span], total: Fraction) -> list[Fraction]:
    """`total` divided by weight, each share within its span (the spans' sums must lie around `total`).

    Shares that leave their span are held at its end and the rest is divided anew, always those of the prevailing
    direction first (CSS Flexible Box Layout, section 9.7).

    >>> [str(share) for share in fair_shares([1, 1, 10], [(0, 1)] * 3, Fraction(2))]
    ['1/2', '1/2', '1']
    """
    shares = [Fraction(0)] * len(weights)
    open_places = list(range(len(weights)))
    while open_places:
        rate = total / sum(weights[place] for place in open_places)
        wanted = {place: rate * weights[place] for place in open_places}
        held = {place: Fraction(max(spans[place][0], min(spans[place][1], wanted[place]))) for place in open_places}
        excess = sum(held.values()) - total
        fixed = [place for place in open_places if not excess or (held[place] - wanted[place]) * excess > 0]
        for place in fixed:
            shares[place] = held[place]
            total -= held[place]
        open_places = [place for place in open_places if place not in set(fixed)] if excess else []
    return shares


def _numbered(names: Sequence[object]) -> list[int]:
    numbers: dict[object, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def _grouped(nodes: Iterable[int], place_of: Sequence[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for node in nodes:
        places.setdefault(place_of[node], []).append(node)
    return places


def _host_sizes(zone_of: Sequence[int], host_of: Sequence[int], size_max: int) -> dict[int, dict[int, int]]:
    """Zone to host to the number of its nodes, as far as a partition can use them."""
    sizes: dict[int, dict[int, int]] = {}
    for zone, host in zip(zone_of, host_of, strict=True):
        hosts = sizes.setdefault(zone, {})
        hosts[host] = min(size_max, hosts.get(host, 0) + 1)
    return sizes


def _host_costs(size: int) -> list[Cost]:
    return [(before, 0) for before in range(size)]


def _zone_costs(host_sizes: Mapping[int, int], replicas: int) -> list[Cost]:
    on_hosts = nsmallest(replicas, chain.from_iterable(range(size) for size in host_sizes.values()))
    return list(enumerate(on_hosts))


def _mixed(below: tuple[int, int], above: tuple[int, int], part: Fraction) -> Span:
    fewest, most = (low + (high - low) * part for low, high in zip(below, above, strict=True))
    return fewest, most
