"""A plan of recovery in sentences: what may be lost, group by group, before anybody agrees to it. Pure."""

from ...ring.topology import SYSTEM_GROUP
from .plans import Fate, GroupPlan, Plan
from .reports import Copy, Health

NEVER_AGAIN = (
    "Never start them again with their old disks: they would serve what they have to whoever asks them. To bring the "
    "machines back, remove their data folders and start new nodes."
)


def verdict(plan: Plan, group: GroupPlan) -> str:
    """What may be lost of a group, and why."""
    match group.fate:
        case Fate.INTACT:
            return "nothing is lost: a majority of its last voters survives"
        case Fate.UNCERTAIN:
            return _uncertain(plan, group)
        case Fate.LOST:
            return "no copy: all of it is lost, and requests for it get DATA_LOSS"
        case Fate.RESTARTED if group.group == SYSTEM_GROUP:
            return "no copy: it begins anew from the newest topology that the survivors know"
        case Fate.RESTARTED:
            return "no copy: all of it is lost, and it begins anew, empty"


def _uncertain(plan: Plan, group: GroupPlan) -> str:
    term, index = group.position
    dead = ", ".join(plan.name_of(node_id) for node_id in group.missing if node_id not in group.ahead)
    what = "changes of the topology" if group.group == SYSTEM_GROUP else "writes acknowledged"
    told = f"{what} since entry {index} of term {term} may be lost"
    if dead:
        told += f": the replicas on {dead} may have had entries after it"
    loss = _copy(group, group.best).loss
    if loss:
        told += f"; the best copy that is left is of an engine that has lost data: {loss}"
    ahead = ", ".join(f"{plan.name_of(each)} (to entry {_copy(group, each).last_index})" for each in group.ahead)
    return f"{told}; a newer copy that is no more healthy is on {ahead}" if ahead else told


def copies_told(plan: Plan, group: GroupPlan) -> list[str]:
    """One line per survivor with a copy, the best first."""
    copies = group.copies or {}
    order = sorted(copies, key=lambda node_id: (node_id != group.best, plan.name_of(node_id)))
    return [_copy_told(plan, group, node_id) for node_id in order]


def _copy_told(plan: Plan, group: GroupPlan, node_id: str) -> str:
    name, copy = plan.name_of(node_id), _copy(group, node_id)
    if copy.health is Health.GONE:
        return f"{name}: gone" + (f" ({copy.reason})" if copy.reason else "")
    found = f"{name}: applied {copy.applied_index}, last {copy.last_index} of term {copy.last_term}"
    if copy.health is not Health.HEALTHY:
        found += f", {copy.health}" + (f" ({copy.reason})" if copy.reason else "")
    if copy.loss:
        found += ", of an engine that has lost data"
    return f"{found}, the best" if node_id == group.best else found


def _copy(group: GroupPlan, node_id: str) -> Copy:
    assert group.copies is not None
    return group.copies[node_id]


def summary(plan: Plan) -> list[str]:
    """The plan in a few sentences."""
    survivors = ", ".join(sorted(map(plan.name_of, plan.fingerprints)))
    told = [
        f"Of the cluster {plan.topology.cluster_name} (id {plan.previous_cluster_id}) these nodes go on: {survivors}."
    ]
    counts = {fate: sum(each.group != SYSTEM_GROUP for each in plan.of(fate)) for fate in Fate}
    phrases = {
        Fate.INTACT: "lose nothing",
        Fate.UNCERTAIN: "may lose the newest writes",
        Fate.LOST: "are lost and answer DATA_LOSS",
        Fate.RESTARTED: "are lost and begin anew, empty",
    }
    parts = [f"{counts[fate]} {phrase}" for fate, phrase in phrases.items() if counts[fate]]
    told.append(f"Of {plan.topology.partitions} partitions, {', '.join(parts)}.")
    for name, loss in sorted(plan.losses.items()):
        told.append(
            f"The engine of {name} has lost data: {loss}. It may have forgotten what it acknowledged and for whom it "
            "voted, so its copies are used only where no other is as new; the rest of them are removed and made anew."
        )
    told.append(f"They become a new cluster of the same name, with the id {plan.cluster_id}.")
    if plan.dead:
        told.append(f"Left behind and removed from the topology: {', '.join(sorted(plan.dead))}. {NEVER_AGAIN}")
    return told


WHY_UNSAFE = (
    "it is unsafe: if a node that is left out still runs, or comes back with its disk, two clusters answer for the "
    "same keys; and what only the lost nodes had is gone for good"
)
