"""What share of all replicas is each node's: by weight, as far as zones, hosts and what cordoned nodes hold let it.

Shares are numbers of replicas per partition. They are divided among zones, then hosts, then nodes. What cordoned nodes
hold is no matter of choice: it is taken out of what their places may get, and the rest is divided among the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from operator import mul
from typing import TypeAlias

from .spread import Spread

Amount: TypeAlias = int | Fraction
Span: TypeAlias = tuple[Amount, Amount]
"""The fewest and the most."""

ONE_REPLICA: Span = (0, 1)
"""What a node has of a partition."""


@dataclass(frozen=True, slots=True)
class Division:
    """How the replicas of all partitions are to be divided. Nodes are known by their position.

    `spreads` are (rules, number of partitions that follow them), `taken` the shares of the cordoned nodes.
    """

    weights: Sequence[int]
    spreads: Sequence[tuple[Spread, int]]
    taken: Mapping[int, Fraction]

    def shares(self) -> list[Fraction]:
        """Each node's fair number of replicas per partition."""
        spread = self.spreads[0][0]
        shares = [self.taken.get(node, Fraction(0)) for node in range(len(self.weights))]
        total = self._mean([(rules.replicas, rules.replicas) for rules, _ in self.spreads])[0]
        by_zone = _grouped(range(len(self.weights)), spread.zone_of)
        zone_spans = {zone: self._mean([rules.zone_span(zone) for rules, _ in self.spreads]) for zone in by_zone}
        for zone, share in self._divided(by_zone, zone_spans, total).items():
            by_host = _grouped(by_zone[zone], spread.host_of)
            host_spans = self._host_spans(zone, by_host, share)
            for host, of_host in self._divided(by_host, host_spans, share).items():
                by_node = {node: [node] for node in by_host[host]}
                for node, own in self._divided(by_node, dict.fromkeys(by_node, ONE_REPLICA), of_host).items():
                    shares[node] = own
        return shares

    def _divided(
        self, places: Mapping[int, Sequence[int]], spans: Mapping[int, Span], total: Fraction
    ) -> dict[int, Fraction]:
        """The share of each place in `total`, what cordoned nodes hold there included."""
        weights = {place: sum(self.weights[n] for n in nodes if n not in self.taken) for place, nodes in places.items()}
        taken = {place: self._taken_by(nodes) for place, nodes in places.items()}
        open_places = [place for place in places if weights[place]]
        left = [_less(spans[place], taken[place]) for place in open_places]
        rest = max(Fraction(0), total - sum(taken.values()))
        divided = fair_shares([weights[place] for place in open_places], left, rest)
        return taken | {place: taken[place] + share for place, share in zip(open_places, divided, strict=True)}

    def _taken_by(self, nodes: Iterable[int]) -> Fraction:
        return sum((self.taken[node] for node in nodes if node in self.taken), Fraction(0))

    def _host_spans(self, zone: int, hosts: Iterable[int], zone_share: Fraction) -> dict[int, Span]:
        in_zone = [_ZoneSpans.of(rules, zone, zone_share) for rules, _ in self.spreads]
        return {host: self._mean([spans.of_host(host) for spans in in_zone]) for host in hosts}

    def _mean(self, spans: Sequence[Span]) -> tuple[Fraction, Fraction]:
        counts = [count for _, count in self.spreads]
        fewest, most = (Fraction(sum(map(mul, end, counts))) / sum(counts) for end in zip(*spans, strict=True))
        return fewest, most


def _less(span: Span, amount: Fraction) -> Span:
    return max(Fraction(0), span[0] - amount), max(Fraction(0), span[1] - amount)


@dataclass(frozen=True, slots=True)
class _ZoneSpans:
    """The spans of a zone's hosts: `part` of the partitions have one replica more in the zone than the others."""

    below: Mapping[int, tuple[int, int]]
    above: Mapping[int, tuple[int, int]]
    part: Fraction

    @staticmethod
    def of(rules: Spread, zone: int, zone_share: Fraction) -> "_ZoneSpans":
        fewest, most = rules.zone_span(zone)
        share = max(Fraction(fewest), min(Fraction(most), zone_share))
        count, part = floor(share), share - floor(share)
        return _ZoneSpans(rules.host_spans(zone, count), rules.host_spans(zone, count + (part > 0)), part)

    def of_host(self, host: int) -> Span:
        below, above = self.below.get(host, (0, 0)), self.above.get(host, (0, 0))
        if below == above:
            return below
        low, high = (low + (high - low) * self.part for low, high in zip(below, above, strict=True))
        return low, high


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


def _grouped(nodes: Iterable[int], place_of: Sequence[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for node in nodes:
        places.setdefault(place_of[node], []).append(node)
    return places
