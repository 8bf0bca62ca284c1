"""Mends what is stored of a replica from what is in memory: a bad disk need not cost a vote that is still known.

Only what was read anew and is still damaged is written: meanwhile the replica may have stored something else there. The
rows can't be mended from memory; the hosting gives them up.
"""

from collections.abc import Mapping

from ...api.proto.ringhold.storage.v1.records_pb2 import HardState, ReplicaRecord
from .. import keyspace
from ..replica_record import put_record
from ..storage.engine import Engine, WriteBatch
from ..storage.envelope import seal
from .core import Replica
from .tickets import Waiting


class Repairs:
    """Writes anew what the caller has found damaged. Not synced: the next sync covers it."""

    def __init__(
        self, engine: Engine, replicas: Mapping[int, Replica[Waiting]], records: Mapping[int, ReplicaRecord]
    ) -> None:
        self._engine = engine
        self._replicas = replicas
        self._records = records

    def mend_vote(self, group: int) -> bool:
        """Write term and vote as they are in memory: they may be newer than what was stored, which does no harm."""
        replica = self._replicas.get(group)
        if replica is None:
            return False
        vote = HardState(term=replica.term, voted_for=replica.voted_for)
        batch = WriteBatch()
        batch.put(keyspace.vote_key(group), seal(vote.SerializeToString()))
        self._engine.write(batch)
        return True

    def mend_record(self, group: int) -> bool:
        """Write the record of the group's replica as it is known."""
        batch = WriteBatch()
        put_record(batch, group, self._records[group])
        self._engine.write(batch)
        return True

    def mend_entry(self, group: int, index: int) -> bool | None:
        """Write a log entry anew; one that is not in memory any more is dropped, with those before: it is applied.

        True: written. False: dropped. None: it does not matter, for it will be replaced or deleted anyway.
        """
        replica = self._replicas.get(group)
        if replica is None or not replica.log.first_index <= index <= replica.unwritten.index:
            return None
        entry = replica.log.remembered(index)
        batch = WriteBatch()
        if entry is not None:
            batch.put(keyspace.log_key(group, index), seal(entry.encoded))
        else:
            assert index <= replica.applied_index, "an entry that is not applied is not in memory"
            replica.log.drop(index)
            batch.delete(keyspace.log_key(group, index))
        self._engine.write(batch)
        return entry is not None
