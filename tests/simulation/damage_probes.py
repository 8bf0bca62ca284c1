"""Counts the rare paths of snapshots, of replicas that are given up, buried and replaced, of logs that are cut."""

from collections.abc import Sequence
from typing import Any

from ringhold.node.consensus.configuration import Configuration
from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.hosting import Hosting
from ringhold.node.consensus.leadership import Leadership
from ringhold.node.snapshots.installer import Installer

from .patches import Make, Note, Place

GIVEN_UP_BY = {
    "a row that was read": "damaged row found by a read",
    "a row that a query": "damaged row found by a query",
    "a row that a command": "damaged row found by applying",
    "a row that was to be sent": "damaged row found by a snapshot",
    "a scrub has found": "damaged row found by a scrub",
}
"""How the reasons begin for which rows are given up."""

BURIED_BY = {
    "its vote": "replica buried: damaged vote",
    "entry": "replica buried: damaged log",
    "its record": "replica buried: damaged record",
}

EVENTS = {
    "replica without rows": "replica opened without rows",
    "snapshot begins": "snapshot begun",
    "snapshot complete": "snapshot installed",
    "snapshot given up": "snapshot given up",
}


def paths_of(event: str, reason: str, done: str) -> Sequence[str]:
    """The rare paths of which a node's log tells."""
    if event == "rows are damaged":
        return [path for start, path in GIVEN_UP_BY.items() if reason.startswith(start)]
    if event == "replica gone":
        return [path for start, path in BURIED_BY.items() if reason.startswith(start)]
    if event == "damage found" and done == "written anew":
        return ["damage mended from memory"]
    return [EVENTS[event]] if event in EVENTS else []


def count_offers(note: Note) -> Make:
    def make(original: Any) -> Any:
        def offer(self: Leadership[Any], node: str, progress: Any, now: float) -> None:
            before = progress.offered_at
            original(self, node, progress, now)
            if progress.offered_at > before:
                note("snapshot offered")
                if not progress.needs_snapshot and progress.next <= self._replica.log.first_index:
                    note("log compacted past a member")

        return offer

    return make


def count_streams(note: Note) -> Make:
    def make(original: Any) -> Any:
        async def stream(self: Installer, installation: Any) -> None:
            if installation.view:
                note("snapshot resumed")
            await original(self, installation)

        return stream

    return make


def count_beginnings(note: Note) -> Make:
    """An installation that another one, of the same replica, has begun before."""
    begun: set[tuple[str, int, int]] = set()

    def make(original: Any) -> Any:
        def begin_install(self: Hosting, group: int) -> None:
            replica = self._replicas[group]
            one = (replica.node_id, group, replica.number)
            if one in begun and not replica.is_healthy:
                note("snapshot started over")
            begun.add(one)
            original(self, group)

        return begin_install

    return make


def count_ends(note: Note) -> Make:
    def make(original: Any) -> Any:
        def say_gone(self: Hosting, *arguments: Any) -> None:
            note("tombstone answered")
            original(self, *arguments)

        return say_gone

    return make


def count_changes(note: Note) -> Make:
    def make(original: Any) -> Any:
        def propose(self: Replica[Any], configuration: Configuration, *arguments: Any) -> bool:
            before = self.configuration
            is_proposed: bool = original(self, configuration, *arguments)
            if is_proposed:
                is_more = len(configuration.voters) > len(before.voters)
                note("learner promoted" if is_more else "member replaced")
            return is_proposed

        return propose

    return make


DAMAGE: Sequence[Place] = (
    (Leadership, "_offer", count_offers),
    (Installer, "_stream", count_streams),
    (Hosting, "begin_install", count_beginnings),
    (Hosting, "_say_gone", count_ends),
    (Replica, "propose_configuration", count_changes),
)
