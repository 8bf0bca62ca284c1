"""The verdict on a run: what clients saw and what disks hold must be what some sequence of operations explains."""

from collections import Counter
from collections.abc import Iterator, Mapping

from ringhold.api.proto.ringhold.storage.v1.records_pb2 import Row
from ringhold.node.keyspace import Kind
from ringhold.node.machine.machine import load_state
from ringhold.node.storage.engine import Engine
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import SYSTEM_GROUP, group_of_partition

from .disks import stored, stored_records, wrong_between, wrong_with_group
from .history import Fate, History, Read
from .linearizability import Undecided, verdict
from .machines import LOG, LOG_DROP_MIN, PARTITIONS
from .queries import Timeline, timelines_of, wrong_with
from .stale import wrong_with_stale

LOG_LENGTH_MAX = LOG.entries_max + LOG_DROP_MIN
"""What may be left of a log when nothing is under way."""


class Judge:
    """All checkers, over the history of a run and the replicas that it left: by group, the engines by machine."""

    def __init__(self, history: History, replicas: Mapping[int, dict[str, Engine]], now: float) -> None:
        self._history = history
        self._replicas = replicas
        self._now = now

    def judge(self) -> None:
        """Tell the history of what is wrong."""
        reads = [*self._history.reads, *self._history.stale_reads]
        timelines = timelines_of(self._history.mutations, reads)
        self._judge_keys(timelines)
        self._judge_pages(timelines)
        self._judge_disks(timelines)

    def _judge_keys(self, timelines: dict[bytes, Timeline]) -> None:
        for key in self._history.keys_met():
            mutations = [one for one in self._history.mutations if one.key == key]
            reads = [one for one in self._history.reads if one.key == key]
            stale_reads = [one for one in self._history.stale_reads if one.key == key]
            try:
                complaint = verdict(mutations, reads, stale_reads)
            except Undecided as error:
                complaint = f"the checker gave up: {error}"
            if complaint is not None:
                self._history.violated(f"key {key!r}: {complaint}")
            for read in reads:
                if not timelines[key].explains(read, read.invoked, read.returned):
                    self._history.violated(f"{read} has not the index entries that it was set with")
            for wrong in wrong_with_stale(stale_reads, timelines[key]):
                self._history.violated(wrong)

    def _judge_pages(self, timelines: dict[bytes, Timeline]) -> None:
        for page in self._history.pages:
            missing = frozenset(key for key in timelines if partition_of(key, PARTITIONS) in page.missing)
            for wrong in wrong_with(page, timelines, missing):
                self._history.violated(
                    f"{page.query} after {page.after}, {page.invoked:.3f}-{page.returned:.3f}: {wrong}"
                )

    def _judge_disks(self, timelines: dict[bytes, Timeline]) -> None:
        replicas = dict(self._replicas)
        for group, engines in replicas.items():
            for name, engine in engines.items():
                if (length := len(stored(engine, Kind.LOG, group))) > LOG_LENGTH_MAX:
                    self._history.violated(f"{name}: {length} entries of the log of group {group} are left")
        for group, engines in replicas.items():
            for wrong in wrong_between(engines, group):
                self._history.violated(wrong)
        del replicas[SYSTEM_GROUP]
        for group, engines in replicas.items():
            for name, engine in engines.items():
                for wrong in (*wrong_with_group(engine, group), *self._wrong_records(engine, group, timelines)):
                    self._history.violated(f"{name}: {wrong}")
        self._judge_revisions({group: revision_of(engines, group) for group, engines in replicas.items()})

    def _wrong_records(self, engine: Engine, group: int, timelines: dict[bytes, Timeline]) -> Iterator[str]:
        """Acknowledged writes that are not there, and records that nobody can have written."""
        now, records = self._now, stored_records(engine, group)
        yield from (f"{key!r} was never set" for key in records.keys() - timelines.keys())
        for key, timeline in timelines.items():
            if group_of_partition(partition_of(key, PARTITIONS)) == group:
                row = records.get(key, Row())
                entries = frozenset((entry.name, entry.value) for entry in row.indexes)
                found = Read(key, row.value if key in records else None, row.version, entries, now, now)
                if not timeline.explains(found, now, now):
                    yield f"what is stored is not the last acknowledged: {found}"

    def _judge_revisions(self, revisions: dict[int, int]) -> None:
        """Each acknowledged mutation has raised its group's revision by one, each one in doubt by one or nothing."""
        done: Counter[int] = Counter()
        doubted: Counter[int] = Counter()
        for mutation in self._history.mutations:
            group = group_of_partition(partition_of(mutation.key, PARTITIONS))
            done[group] += mutation.fate is Fate.DONE and mutation.version != 0
            doubted[group] += mutation.fate is Fate.DOUBT
        for group, revision in revisions.items():
            if not done[group] <= revision <= done[group] + doubted[group]:
                self._history.violated(
                    f"group {group} is at revision {revision}; {done[group]} mutations were acknowledged, "
                    f"{doubted[group]} are in doubt"
                )


def revision_of(replicas: Mapping[str, Engine], group: int) -> int:
    """The highest revision of the group's replicas."""
    return max(load_state(engine, group).revision for engine in replicas.values())
