"""A plan of recovery: what every group will be, and what may be lost by it. Made once, carried out on each survivor."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ...ring.topology import SYSTEM_GROUP, Topology, partition_of_group
from ..consensus.configuration import Configuration
from .documents import MalformedDocument, read_document, write_document
from .reports import Copy, Health, NodeReport, decode_configuration, encode_configuration

REPORT_KIND, PLAN_KIND = "recovery report", "recovery plan"


class Fate(StrEnum):
    """What becomes of a group. In the order of harm.

    INTACT: a majority of its last known voters survives, so nothing is lost. UNCERTAIN: it goes on from the best copy
    that is left. LOST: there is no copy, and it answers DATA_LOSS. RESTARTED: there is no copy, and it begins anew.
    """

    INTACT = "intact"
    UNCERTAIN = "uncertain"
    LOST = "lost"
    RESTARTED = "restarted"


class Task(StrEnum):
    """What is to be done to a group on one node.

    KEEP: its copy goes on under the new configuration. BEGIN: a new, empty replica. BURY: its copy never speaks again,
    and what it held is removed. MARK_LOST: its copy never speaks again, and what it holds stays where it is. LEAVE:
    nothing is here, or a tombstone.
    """

    KEEP = "keep"
    BEGIN = "begin"
    BURY = "bury"
    MARK_LOST = "mark lost"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What becomes of a group.

    configuration: who replicates it from now on; of a LOST one nobody. best: the survivor whose copy is the newest
    (empty: none), `position` its (last log term, last log index). missing: the voters without a healthy copy. ahead:
    the survivors whose copies are no more healthy, but have newer logs. began: of a RESTARTED group, the index that it
    begins at, after all that was ever known of it. copies: what the survivors have, by node.
    """

    group: int
    fate: Fate
    configuration: Configuration
    targets: tuple[str, ...]
    best: str = ""
    position: tuple[int, int] = (0, 0)
    missing: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()
    began: int = 0
    began_term: int = 0
    revision: int = 0
    copies: Mapping[str, Copy] | None = None

    def task_of(self, node_id: str) -> Task:
        """What is to be done on a survivor."""
        copy = (self.copies or {}).get(node_id)
        if self.fate is Fate.LOST:
            return Task.MARK_LOST if copy is not None or node_id in self.targets else Task.LEAVE
        if self.fate is Fate.RESTARTED and node_id in self.configuration.numbers:
            return Task.BEGIN
        if copy is None:
            return Task.LEAVE
        is_usable = copy.health is Health.HEALTHY and (not copy.loss or node_id == self.best)
        is_kept = is_usable and node_id in self.configuration.numbers
        return Task.KEEP if is_kept else Task.BURY

    @property
    def name(self) -> str:
        """As people call it."""
        return "system group" if self.group == SYSTEM_GROUP else f"partition {partition_of_group(self.group)}"

    def encode(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **{name: getattr(self, name) for name in _GROUP_FIELDS},
            "configuration": encode_configuration(self.configuration),
            "copies": {node_id: copy.encode() for node_id, copy in (self.copies or {}).items()},
        }

    @staticmethod
    def decode(content: Mapping[str, Any]) -> "GroupPlan":
        """The inverse of `encode`; raises TypeError, ValueError or KeyError for anything else."""
        typed = {
            **{name: tuple(content[name]) for name in ("targets", "position", "missing", "ahead")},
            "fate": Fate(content["fate"]),
            "configuration": decode_configuration(content["configuration"]),
            "copies": {node_id: Copy.decode(copy) for node_id, copy in content["copies"].items()},
        }
        return GroupPlan(**{**content, **typed})


_GROUP_FIELDS = (
    "group",
    "fate",
    "targets",
    "best",
    "position",
    "missing",
    "ahead",
    "began",
    "began_term",
    "revision",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the survivors do, each for itself and all from the same plan.

    topology: of the new cluster, whose id is the plan's own mark. fingerprints: by survivor, of the report that the
    plan rests on. dead: the names of the nodes that are left behind.
    """

    previous_cluster_id: str
    topology: Topology
    groups: tuple[GroupPlan, ...]
    fingerprints: Mapping[str, str]
    dead: tuple[str, ...]

    @property
    def cluster_id(self) -> str:
        """Of the cluster that the survivors will be."""
        return self.topology.cluster_id

    def name_of(self, node_id: str) -> str:
        """The node's name, for people."""
        node = self.topology.node(node_id)
        return node.name if node else node_id

    @property
    def losses(self) -> dict[str, str]:
        """By name, the nodes whose engines have lost something, and what."""
        copies = (pair for group in self.groups for pair in (group.copies or {}).items())
        return {self.name_of(node_id): copy.loss for node_id, copy in copies if copy.loss}

    def of(self, *fates: Fate) -> list[GroupPlan]:
        """The groups with one of these fates."""
        return [group for group in self.groups if group.fate in fates]

    def encode(self) -> bytes:
        """The plan as a file."""
        content = {
            "previous_cluster_id": self.previous_cluster_id,
            "topology": self.topology.to_json().decode(),
            "groups": [group.encode() for group in self.groups],
            "fingerprints": dict(self.fingerprints),
            "dead": list(self.dead),
        }
        return write_document(PLAN_KIND, content)

    @staticmethod
    def decode(text: bytes) -> "Plan":
        """The inverse of `encode`. Raises MalformedDocument."""
        content = read_document(PLAN_KIND, text)
        try:
            typed = {
                "topology": Topology.from_json(content["topology"].encode()),
                "groups": tuple(GroupPlan.decode(group) for group in content["groups"]),
                "dead": tuple(content["dead"]),
            }
            return Plan(**{**content, **typed})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MalformedDocument(f"its content is not that of a plan: {error}") from error


def encode_report(report: NodeReport) -> bytes:
    """A report as a file."""
    return write_document(REPORT_KIND, report.encode())


def decode_report(text: bytes) -> NodeReport:
    """The inverse of `encode_report`. Raises MalformedDocument."""
    content = read_document(REPORT_KIND, text)
    try:
        return NodeReport.decode(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedDocument(f"its content is not that of a report: {error}") from error
