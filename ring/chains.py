"""Shortest chains of nodes along which partitions are passed on, for replicas and for leaderships alike."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Step:
    """One partition that may pass between two nodes; `start` is the one nearer to the chain's start."""

    start: int
    partition: int
    end: int


Steps: TypeAlias = Callable[[int, Container[int]], Iterator[Step]]
"""The steps from a node to nodes that are not in the container (which grows meanwhile)."""


def shortest_chain(start: int, steps_from: Steps, is_goal: Callable[[int], bool]) -> list[Step]:
    """The steps from `start` to the nearest goal, no partition twice; empty if there is no way (breadth-first)."""
    arrived: dict[int, list[Step]] = {start: []}
    queue = [start]
    for node in queue:
        used = {step.partition for step in arrived[node]}
        for step in steps_from(node, arrived):
            if step.partition in used:
                continue
            arrived[step.end] = [*arrived[node], step]
            if is_goal(step.end):
                return arrived[step.end]
            queue.append(step.end)
    return []
