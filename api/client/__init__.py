"""The Python client: `Client` for threads, `AsyncClient` for asyncio, both on one pure core. See docs/client.md."""

from .asynchronous import AsyncClient, AsyncMatches
from .blocking import Client, Matches
from .config import ClientConfig
from .operations import Consistency, Delete, Get, Operation, Set
from .orders import (
    AddNodes,
    CordonNode,
    DecommissionNode,
    KeepNode,
    Order,
    RemoveNode,
    SetReplicationFactor,
    UncordonNode,
)
from .results import (
    Change,
    ClusterChange,
    ClusterStatus,
    Explanation,
    Fate,
    Match,
    Move,
    Node,
    NodeLoad,
    NodeStatus,
    Partition,
    PlannedMove,
    Record,
    Resolution,
    Topology,
    UnhealthyReplica,
)
from .unit import Outcome

__all__ = [
    "AddNodes",
    "AsyncClient",
    "AsyncMatches",
    "Change",
    "Client",
    "ClientConfig",
    "ClusterChange",
    "ClusterStatus",
    "Consistency",
    "CordonNode",
    "DecommissionNode",
    "Delete",
    "Explanation",
    "Fate",
    "Get",
    "KeepNode",
    "Match",
    "Matches",
    "Move",
    "Node",
    "NodeLoad",
    "NodeStatus",
    "Operation",
    "Order",
    "Outcome",
    "Partition",
    "PlannedMove",
    "Record",
    "RemoveNode",
    "Resolution",
    "Set",
    "SetReplicationFactor",
    "Topology",
    "UncordonNode",
    "UnhealthyReplica",
]
