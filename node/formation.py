"""How a cluster begins: who founds it, who waits, who joins (DESIGN section 8.5). The core of it is `decide`.

A cluster is founded once, by one node: the first of the seeds, and only when all the nodes that are expected say, asked
directly, that they are empty and want the same cluster. So a node that has lost its disk never founds a second one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TypeAlias

STATE_BYTES_MAX = 16 * 1024


class MalformedState(ValueError):
    """An answer that is no formation state."""


@dataclass(frozen=True, slots=True)
class FormationState:
    """What a node says of itself while a cluster forms. `cluster_id` is empty until it has adopted one."""

    node_id: str
    name: str
    cluster: str
    cluster_id: str
    epoch: int
    expect: int
    partitions: int
    replication_factor: int
    seeds: str
    grpc_address: str
    http_address: str
    host: str
    zone: str
    weight: int

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @staticmethod
    def decode(body: bytes) -> "FormationState":
        """Raises MalformedState for anything that `encode` does not write."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise MalformedState("not JSON") from error
        if not isinstance(value, dict) or {name: type(part) for name, part in value.items()} != FIELD_TYPES:
            raise MalformedState("not the fields of a formation state")
        return FormationState(**value)

    def disagreements(self, other: "FormationState") -> list[str]:
        """The flags that this node and the other were told differently, of those that all founders must be told alike.

        They are the cluster's name, number of nodes, of partitions, of replicas, and the list of seeds.
        """
        names = ("cluster", "expect", "partitions", "replication_factor", "seeds")
        return [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != getattr(other, name)]


FIELD_TYPES = {
    field.name: int if field.name in {"epoch", "expect", "partitions", "replication_factor", "weight"} else str
    for field in fields(FormationState)
}


@dataclass(frozen=True, slots=True)
class Found:
    """All expected nodes are empty and agree: found the cluster of these."""

    nodes: Sequence[FormationState]


@dataclass(frozen=True, slots=True)
class Join:
    """A cluster exists: take its topology from the node at this address."""

    address: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet; `reason` is a sentence for people."""

    reason: str


Decision: TypeAlias = Found | Join | Wait


def seeds_hash(seeds: Sequence[str]) -> str:
    """What stands for the list of seeds when nodes compare theirs: the order counts, for the first one founds."""
    return hashlib.sha256("\n".join(seeds).encode()).hexdigest()[:16]


def decide(own: FormationState, first_seed: str, answers: Mapping[str, FormationState]) -> Decision:
    """What an empty node does, given the answers of those it asked, by the address that it asked (its own too)."""
    others = {state.node_id: state for state in answers.values() if state.node_id != own.node_id}
    members = [(address, state) for address, state in answers.items() if state.cluster_id]
    if members:
        return Join(max(members, key=lambda member: member[1].epoch)[0])
    if not own.expect:
        return Wait("no cluster answers at the seeds yet, and without --expect this node forms none")
    others = {node_id: state for node_id, state in others.items() if state.expect}  # the rest came only to join
    nodes = [own, *(others[node_id] for node_id in sorted(others))]
    if len(nodes) < own.expect:
        answered = ", ".join(sorted(state.name for state in others.values())) or "nobody"
        missing = own.expect - len(nodes)
        return Wait(f"{missing} of {own.expect} nodes have not answered yet (so far: {answered})")
    differing = {state.name: flags for state in others.values() if (flags := own.disagreements(state))}
    if differing:
        told = "; ".join(f"{name}: {', '.join(differing[name])}" for name in sorted(differing))
        return Wait(f"settings that must be the same on all nodes are not the same as here ({told})")
    if len(nodes) > own.expect:
        return Wait(f"{len(nodes)} empty nodes answer, but {own.expect} are expected")
    names = [state.name for state in nodes]
    if len(set(names)) < len(names):
        return Wait("two nodes have the same name")
    founder = answers.get(first_seed)
    if founder is None or founder.node_id != own.node_id:
        return Wait(f"the node at the first seed, {first_seed}, founds the cluster")
    return Found(nodes)


def decide_return(cluster_id: str, answers: Mapping[str, FormationState]) -> Join | Wait:
    """What a node does that has lost its engine: it returns to its own cluster, and neither founds nor joins another.

    `answers` are those of `decide`.
    """
    members = [(address, state) for address, state in answers.items() if state.cluster_id == cluster_id]
    if members:
        return Join(max(members, key=lambda member: member[1].epoch)[0])
    strangers = sorted({state.name for state in answers.values() if state.cluster_id})
    others = f" (these are of another cluster: {', '.join(strangers)})" if strangers else ""
    return Wait(
        f"this node has lost its engine and is rebuilt by the cluster with id {cluster_id}, of which no node "
        f"answers yet{others}"
    )
