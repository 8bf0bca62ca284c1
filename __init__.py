"""Ringhold: a sharded, replicated key-value store with secondary indexes.

The client's names are loaded on first use, so that `python -m ringhold` pays only for what it runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api.client import (
        AddNodes,
        AsyncClient,
        AsyncMatches,
        Change,
        Client,
        ClientConfig,
        ClusterChange,
        ClusterStatus,
        Consistency,
        CordonNode,
        DecommissionNode,
        Delete,
        Explanation,
        Fate,
        Get,
        KeepNode,
        Match,
        Matches,
        Move,
        Node,
        NodeLoad,
        NodeStatus,
        Operation,
        Order,
        Outcome,
        Partition,
        PlannedMove,
        Record,
        RemoveNode,
        Resolution,
        Set,
        SetReplicationFactor,
        Topology,
        UncordonNode,
        UnhealthyReplica,
    )
    from .api.errors import (
        AccessDenied,
        ChangeRefused,
        Conflict,
        DataLoss,
        Incomplete,
        InDoubt,
        InvalidRequest,
        KeyNotFound,
        Overloaded,
        RingholdError,
        TimedOut,
        Unavailable,
        Unsupported,
    )

__all__ = [
    "AccessDenied",
    "AddNodes",
    "AsyncClient",
    "AsyncMatches",
    "Change",
    "ChangeRefused",
    "Client",
    "ClientConfig",
    "ClusterChange",
    "ClusterStatus",
    "Conflict",
    "Consistency",
    "CordonNode",
    "DataLoss",
    "DecommissionNode",
    "Delete",
    "Explanation",
    "Fate",
    "Get",
    "InDoubt",
    "Incomplete",
    "InvalidRequest",
    "KeepNode",
    "KeyNotFound",
    "Match",
    "Matches",
    "Move",
    "Node",
    "NodeLoad",
    "NodeStatus",
    "Operation",
    "Order",
    "Outcome",
    "Overloaded",
    "Partition",
    "PlannedMove",
    "Record",
    "RemoveNode",
    "Resolution",
    "RingholdError",
    "Set",
    "SetReplicationFactor",
    "TimedOut",
    "Topology",
    "Unavailable",
    "UncordonNode",
    "UnhealthyReplica",
    "Unsupported",
]

ERRORS = frozenset(
    {
        "AccessDenied",
        "ChangeRefused",
        "Conflict",
        "DataLoss",
        "InDoubt",
        "Incomplete",
        "InvalidRequest",
        "KeyNotFound",
        "Overloaded",
        "RingholdError",
        "TimedOut",
        "Unavailable",
        "Unsupported",
    }
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = ".api.errors" if name in ERRORS else ".api.client"
    return getattr(import_module(home, __name__), name)
