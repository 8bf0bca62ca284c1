"""Ringhold: a sharded, replicated key-value store with secondary indexes.

The client's names are loaded on first use, so that `python -m ringhold` pays only for what it runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api.client import (
        AsyncClient,
        AsyncMatches,
        Change,
        Client,
        ClientConfig,
        ClusterStatus,
        Consistency,
        Delete,
        Explanation,
        Fate,
        Get,
        Match,
        Matches,
        Node,
        NodeStatus,
        Operation,
        Outcome,
        Partition,
        Record,
        Resolution,
        Set,
        Topology,
    )
    from .api.errors import (
        AccessDenied,
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
    "AsyncClient",
    "AsyncMatches",
    "Change",
    "Client",
    "ClientConfig",
    "ClusterStatus",
    "Conflict",
    "Consistency",
    "DataLoss",
    "Delete",
    "Explanation",
    "Fate",
    "Get",
    "InDoubt",
    "Incomplete",
    "InvalidRequest",
    "KeyNotFound",
    "Match",
    "Matches",
    "Node",
    "NodeStatus",
    "Operation",
    "Outcome",
    "Overloaded",
    "Partition",
    "Record",
    "Resolution",
    "RingholdError",
    "Set",
    "TimedOut",
    "Topology",
    "Unavailable",
    "Unsupported",
]

ERRORS = frozenset(
    {
        "AccessDenied",
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
