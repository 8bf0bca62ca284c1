"""The Python client: `Client` for threads, `AsyncClient` for asyncio, both on one pure core. See docs/client.md."""

from .asynchronous import AsyncClient, AsyncMatches
from .blocking import Client, Matches
from .config import ClientConfig
from .operations import Consistency, Delete, Get, Operation, Set
from .results import (
    Change,
    ClusterStatus,
    Explanation,
    Fate,
    Match,
    Node,
    NodeStatus,
    Partition,
    Record,
    Resolution,
    Topology,
    UnhealthyReplica,
)
from .unit import Outcome

__all__ = [
    "AsyncClient",
    "AsyncMatches",
    "Change",
    "Client",
    "ClientConfig",
    "ClusterStatus",
    "Consistency",
    "Delete",
    "Explanation",
    "Fate",
    "Get",
    "Match",
    "Matches",
    "Node",
    "NodeStatus",
    "Operation",
    "Outcome",
    "Partition",
    "Record",
    "Resolution",
    "Set",
    "Topology",
    "UnhealthyReplica",
]
