"""A plan that is carried out on several folders leaves a copy in each, so that a crash in between can be mended."""

from collections.abc import Sequence
from pathlib import Path

from ..storage.folder import write_durably
from .documents import MalformedDocument
from .inspection import FolderUnfit, StoppedNode
from .plans import Plan

PLAN_FILE = "recovery-plan.json"


def keep_plan(nodes: Sequence[StoppedNode], plan: Plan) -> None:
    """Durable on return; the first node is changed only after that. Raises OSError."""
    for node in nodes:
        write_durably(_file(node), plan.encode())


def drop_plan(nodes: Sequence[StoppedNode]) -> None:
    """Every node is done."""
    for node in nodes:
        _file(node).unlink(missing_ok=True)


def unfinished_plan(nodes: Sequence[StoppedNode]) -> Plan | None:
    """The plan that was carried out on some of these nodes, and not on all. Raises FolderUnfit for a damaged one."""
    plans = [plan for plan in map(_kept_plan, nodes) if plan is not None]
    return next((plan for plan in plans if _is_begun(plan, nodes)), None)


def _is_begun(plan: Plan, nodes: Sequence[StoppedNode]) -> bool:
    done = [node.identity.cluster_id == plan.cluster_id for node in nodes]
    begun = [node.topology.cluster_id == plan.cluster_id for node in nodes]
    return any(begun) and not all(done)


def _kept_plan(node: StoppedNode) -> Plan | None:
    try:
        return Plan.decode(_file(node).read_bytes())
    except FileNotFoundError:
        return None
    except MalformedDocument as error:
        raise FolderUnfit(f"{_file(node)} can't be read: {error}") from error


def _file(node: StoppedNode) -> Path:
    return node.folder.path / PLAN_FILE
