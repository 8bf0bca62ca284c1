"""Counts the rare paths of moves: what leaders refuse, who hands over to be removed, and who finds out that it was."""

from collections.abc import Sequence
from typing import Any

from ringhold.node.consensus.reconfiguring import NotNow, Reconfiguring
from ringhold.node.moving.leftovers import Leftovers
from ringhold.node.moving.placements import Placements

from .patches import Make, Note, Place


def count_removals(note: Note) -> Make:
    def make(original: Any) -> Any:
        def remove(self: Reconfiguring, group: int, node_id: str, expected_index: int) -> None:
            replica = self._replicas.get(group)
            is_learner = replica is not None and node_id not in replica.configuration.voting_nodes
            try:
                original(self, group, node_id, expected_index)
            except NotNow as reason:
                if "hands over" in str(reason):
                    note("leader hands over to be removed")
                raise
            note("newcomer sent away" if is_learner else "voter removed")

        return remove

    return make


def count_refusals(note: Note) -> Make:
    def make(original: Any) -> Any:
        def configure(self: Placements, request: Any) -> Any:
            reply = original(self, request)
            if "epoch" in reply.message:
                note("mover of another epoch refused")
            return reply

        return configure

    return make


def count_leftovers(note: Note) -> Make:
    def make(original: Any) -> Any:
        async def ask(self: Leftovers, group: int) -> None:
            await original(self, group)
            if self._groups.hosting.replica_id(group) is None:
                note("replica learnt by asking that it was removed")

        return ask

    return make


MOVES: Sequence[Place] = (
    (Reconfiguring, "remove", count_removals),
    (Placements, "configure", count_refusals),
    (Leftovers, "_ask", count_leftovers),
)
"""What to watch, and how."""

MOVE_PATHS = (
    "leader hands over to be removed",
    "mover of another epoch refused",
    "newcomer sent away",
    "node left for good",
    "order taken",
    "replica learnt by asking that it was removed",
    "ring changed in peace",
    "voter removed",
)
