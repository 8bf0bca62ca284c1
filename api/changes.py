"""What a change of the cluster must look like, whatever the cluster is like.

Checked by the client before it is sent, and by the node that gets it before anything else. See docs/client.md.
"""

from collections.abc import Iterable

from ..ring.topology import NODES_MAX, REPLICATION_FACTOR_MAX, TEXT_CHARACTERS_MAX
from .errors import InvalidRequest
from .proto.ringhold.v1.cluster_pb2 import Change, ChangeRequest

CHANGES_MAX = 1_000
"""Orders in one change; each places all partitions anew."""

NODE_ORDERS = frozenset({"decommission", "keep", "remove", "cordon", "uncordon"})
"""Kinds of orders that name a node."""

RIVALS = (frozenset({"decommission", "keep", "remove"}), frozenset({"remove", "cordon", "uncordon"}))
"""Orders of which a node can have one."""


def check_change(request: ChangeRequest) -> None:
    """Raises InvalidRequest for orders that can't be right: each by itself, and taken together."""
    if not request.changes:
        raise change_invalid("no change is asked for")
    if len(request.changes) > CHANGES_MAX:
        raise change_invalid(f"a change has {CHANGES_MAX} orders at most, not {len(request.changes)}")
    for change in request.changes:
        _check_order(change, request.dry_run)
    _check_together(request.changes)


def check_node_name(name: str) -> None:
    """Raises InvalidRequest for what no node can be called."""
    if not name:
        raise change_invalid("the name of a node is missing")
    if len(name) > TEXT_CHARACTERS_MAX or not name.isprintable():
        raise change_invalid(f"no node can be called {name[:TEXT_CHARACTERS_MAX]!a}")


def check_replication_factor(number: int) -> None:
    """Raises InvalidRequest unless partitions can have so many replicas."""
    if not 1 <= number <= REPLICATION_FACTOR_MAX:
        raise change_invalid(f"the replication factor is from 1 to {REPLICATION_FACTOR_MAX}, not {number}")


def check_added(number: int) -> None:
    """Raises InvalidRequest unless so many nodes can come in."""
    if not 1 <= number <= NODES_MAX:
        raise change_invalid(f"from 1 to {NODES_MAX} nodes can be added, not {number}")


def change_invalid(message: str) -> InvalidRequest:
    """The error of a change that can't be right."""
    return InvalidRequest("CHANGE_INVALID", message)


def _check_order(change: Change, dry_run: bool) -> None:
    match change.WhichOneof("kind"):
        case None:
            raise change_invalid("an order says nothing, or what this version does not know")
        case "replication_factor":
            check_replication_factor(change.replication_factor)
        case "add":
            check_added(change.add)
            if not dry_run:
                raise change_invalid("a node is added by starting it: only a dry run can be asked about others")
        case kind:
            check_node_name(getattr(change, kind))


def _check_together(changes: Iterable[Change]) -> None:
    kinds: dict[str, set[str]] = {}
    factors: set[int] = set()
    additions = 0
    for change in changes:
        kind = str(change.WhichOneof("kind"))
        if kind in NODE_ORDERS:
            kinds.setdefault(getattr(change, kind), set()).add(kind)
        elif kind == "add":
            additions += 1
        else:
            factors.add(change.replication_factor)
    for name, asked in kinds.items():
        for rivals in RIVALS:
            if len(asked & rivals) > 1:
                raise change_invalid(f"{name} can't have both: {' and '.join(sorted(asked & rivals))}")
    if len(factors) > 1:
        raise change_invalid(f"there is one replication factor, not {' and '.join(map(str, sorted(factors)))}")
    if additions > 1:
        raise change_invalid("say in one order how many nodes are added")
