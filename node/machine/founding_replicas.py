"""The replicas that a cluster begins with: made once, in the batch in which a founder adopts epoch 1 (DESIGN 7).

Every founder stages its own from the same epoch 1, so that all replicas of a group begin with the same bytes. A node
that comes later gets its replicas from the groups' leaders only. See docs/protocols/formation.md.
"""

from ...ring.topology import SYSTEM_GROUP, Topology, group_of_partition
from ..replica_record import put_founding_replica
from ..storage.engine import WriteBatch
from .machine import founded_state
from .topology_machine import found_system_group


def stage_founding_replicas(founding: Topology, node_id: str, batch: WriteBatch) -> frozenset[int]:
    """Stage the replicas that `node_id` founds according to epoch 1, and return their groups.

    The state of each says who votes: the partition's targets in their order, all with replica id 0.
    """
    assert founding.epoch == 1, f"founding replicas were asked for from epoch {founding.epoch}"
    groups: set[int] = set()
    if node_id in founding.system_voters:
        found_system_group(founding, batch)
        groups.add(SYSTEM_GROUP)
    for partition, targets in enumerate(founding.targets):
        if node_id in targets:
            group = group_of_partition(partition)
            put_founding_replica(batch, group, founded_state(targets))
            groups.add(group)
    return frozenset(groups)
