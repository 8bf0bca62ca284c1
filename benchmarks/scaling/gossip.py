"""Gossip at many sizes: what it sends at rest, how soon a crash is known, and who is accused without reason."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ringhold.gossip.member import MemberState

from ..plan import Tell
from .envelope import Envelope, measured_envelope
from .members import members_of, node_records
from .swim import Conditions, Sighting, SimulatedMember, SwimNetwork, Traffic

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Watch:
    """How long and how often a cluster of a size is watched: at rest, and then while some members are dead."""

    runs: int
    rest_s: float
    crashes: int
    watch_s: float


WATCHES: Mapping[int, Watch] = {
    3: Watch(runs=60, rest_s=60, crashes=1, watch_s=20),
    10: Watch(runs=40, rest_s=60, crashes=1, watch_s=40),
    100: Watch(runs=6, rest_s=30, crashes=2, watch_s=60),
    1000: Watch(runs=1, rest_s=10, crashes=3, watch_s=45),
}
QUICK_WATCHES: Mapping[int, Watch] = {
    3: Watch(runs=5, rest_s=30, crashes=1, watch_s=20),
    10: Watch(runs=5, rest_s=30, crashes=1, watch_s=30),
    100: Watch(runs=1, rest_s=20, crashes=1, watch_s=30),
}
CONDITIONS = (
    Conditions("all well"),
    Conditions("1 % lost", loss=0.01),
    Conditions("5 % lost", loss=0.05),
    Conditions("a few slow", slow_share=0.005),
)


@dataclass(frozen=True, slots=True)
class Wrong:
    """Lives of running members that somebody believed to be SUSPECT, or DEAD; a refutation begins another life."""

    accused: int
    killed: int

    @staticmethod
    def among(sightings: Sequence[Sighting]) -> "Wrong":
        def lives(state: MemberState) -> int:
            return len({(each.subject, each.incarnation) for each in sightings if each.state is state})

        return Wrong(lives(MemberState.SUSPECT), lives(MemberState.DEAD))

    def __add__(self, other: "Wrong") -> "Wrong":
        return Wrong(self.accused + other.accused, self.killed + other.killed)


@dataclass(frozen=True, slots=True)
class Watched:
    """What one run showed."""

    traffic: Traffic
    """At rest."""

    first_suspicion_s: Sequence[float]
    """Of each crash, until anybody suspects."""

    dead_s: Sequence[float]
    """Of each crash and each member that runs well, until it believes DEAD."""

    unaware: int
    """How many of these did not come to that."""

    wrong_of_well: Wrong
    wrong_of_slow: Wrong


@dataclass(frozen=True, slots=True)
class GossipFigures:
    """All runs of one size under one set of conditions; rates are what a member sends in a second at rest."""

    members: int
    conditions: str
    runs: int
    member_hours: float
    messages_per_s: float
    bytes_per_s: float
    comparison_share: float
    """Of the bytes."""

    suspected_s: float
    """From a crash until anybody suspects: the median."""

    dead_s_median: float
    dead_s_99th: float
    dead_s_worst: float
    aware: int
    unaware: int
    wrong_of_well: Wrong
    wrong_of_slow: Wrong


def gossip_figures(watches: Mapping[int, Watch], tell: Tell) -> Iterator[GossipFigures]:
    envelope = asyncio.run(measured_envelope())
    tell(f"HTTP adds {envelope.request_bytes} bytes to a request and {envelope.answer_bytes} to an answer")
    for members, plan in watches.items():
        for conditions in CONDITIONS:
            tell(f"gossip: {members:,} members, {conditions.title}")
            all_watched = [watch(members, conditions, plan, seed) for seed in range(1, plan.runs + 1)]
            yield figures_of(members, conditions, plan, all_watched, envelope)


def watch(members: int, conditions: Conditions, plan: Watch, seed: int) -> Watched:
    """One run. Those that crash were no slow ones, and crash at the same moment."""
    network = SwimNetwork.of(members_of(node_records(members), seed), conditions, seed)
    network.run(plan.rest_s)
    at_rest = replace(network.traffic)
    well = [member for member in network.running() if not member.is_slow]
    victims = network.rng.sample(well, plan.crashes)
    for victim in victims:
        network.crash(victim)
    crashed_at = network.now
    network.run(plan.watch_s)
    observers = {member.node_id for member in well if member.up}
    slow = {member.node_id for member in network.members.values() if member.is_slow}
    seen = [sightings_of(network, victim, crashed_at) for victim in victims]
    dead_s = [
        each.at - crashed_at
        for sightings in seen
        for each in sightings
        if each.state is MemberState.DEAD and each.observer in observers
    ]
    wrong = [sighting for sighting in network.sightings if not sighting.is_right]
    return Watched(
        at_rest,
        [sightings[0].at - crashed_at for sightings in seen if sightings],
        dead_s,
        len(victims) * len(observers) - len(dead_s),
        Wrong.among([each for each in wrong if each.subject not in slow]),
        Wrong.among([each for each in wrong if each.subject in slow]),
    )


def sightings_of(network: SwimNetwork, victim: SimulatedMember, crashed_at: float) -> Sequence[Sighting]:
    """What others rightly saw of a member that crashed then; from the first on, each state once per observer."""
    return [each for each in network.sightings if each.subject == victim.node_id and each.at >= crashed_at]


def figures_of(
    members: int, conditions: Conditions, plan: Watch, all_watched: Sequence[Watched], envelope: Envelope
) -> GossipFigures:
    member_seconds = members * plan.rest_s * plan.runs
    messages = sum(each.traffic.messages for each in all_watched)
    body_bytes = sum(each.traffic.body_bytes for each in all_watched)
    comparison = sum(each.traffic.comparison_bytes for each in all_watched)
    all_bytes = body_bytes + messages * envelope.mean_bytes
    dead_s = sorted(chain.from_iterable(each.dead_s for each in all_watched))
    return GossipFigures(
        members=members,
        conditions=conditions.title,
        runs=plan.runs,
        member_hours=members * (plan.rest_s + plan.watch_s) * plan.runs / SECONDS_PER_HOUR,
        messages_per_s=messages / member_seconds,
        bytes_per_s=all_bytes / member_seconds,
        comparison_share=comparison / all_bytes,
        suspected_s=median(chain.from_iterable(each.first_suspicion_s for each in all_watched)),
        dead_s_median=median(dead_s),
        dead_s_99th=dead_s[ceil(0.99 * len(dead_s)) - 1],
        dead_s_worst=dead_s[-1],
        aware=len(dead_s),
        unaware=sum(each.unaware for each in all_watched),
        wrong_of_well=sum((each.wrong_of_well for each in all_watched), Wrong(0, 0)),
        wrong_of_slow=sum((each.wrong_of_slow for each in all_watched), Wrong(0, 0)),
    )


def traffic_table(everything: Sequence[GossipFigures]) -> Table:
    table = Table("members", "", title="gossip: a member's messages and bytes per second at rest", box=SIMPLE_HEAD)
    for column in ("messages", "bytes", "of comparisons"):
        table.add_column(column, justify="right")
    for each in everything:
        table.add_row(
            f"{each.members:,}",
            each.conditions,
            f"{each.messages_per_s:.1f}",
            f"{each.bytes_per_s:,.0f}",
            f"{100 * each.comparison_share:.0f} %",
        )
    return table


def detection_table(everything: Sequence[GossipFigures]) -> Table:
    table = Table("members", "", title="gossip: seconds from a crash", box=SIMPLE_HEAD)
    for column in ("suspected", "DEAD: median", "99 %", "worst", "unaware"):
        table.add_column(column, justify="right")
    for each in everything:
        table.add_row(
            f"{each.members:,}",
            each.conditions,
            *(f"{s:.1f}" for s in (each.suspected_s, each.dead_s_median, each.dead_s_99th, each.dead_s_worst)),
            f"{each.unaware:,} of {each.aware + each.unaware:,}",
        )
    return table


def accusation_table(everything: Sequence[GossipFigures]) -> Table:
    """Per hour of a member's life would be shares of one for small clusters, so the hours are told instead."""
    table = Table("members", "", title="gossip: wrongly believed of running members", box=SIMPLE_HEAD)
    for column in ("hours of members", "SUSPECT: well", "slow", "DEAD: well", "slow"):
        table.add_column(column, justify="right")
    for each in everything:
        well, slow = each.wrong_of_well, each.wrong_of_slow
        table.add_row(
            f"{each.members:,}",
            each.conditions,
            f"{each.member_hours:.1f}",
            *(f"{count:,}" for count in (well.accused, slow.accused, well.killed, slow.killed)),
        )
    return table
