"""A plan of recovery as a table for people; imported only once there is one."""

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..recovery.plans import Fate, Plan
from ..recovery.verdicts import copies_told, summary, verdict

STYLES = {Fate.INTACT: "green", Fate.UNCERTAIN: "yellow", Fate.LOST: "bold red", Fate.RESTARTED: "bold red"}


def plan_table(plan: Plan) -> RenderableType:
    """Group by group what may be lost and what the survivors have, then the summary."""
    table = Table("group", "what may be lost", "what the survivors have", box=SIMPLE_HEAD)
    for group in plan.groups:
        copies = "\n".join(copies_told(plan, group)) or "-"
        table.add_row(Text(group.name), Text(verdict(plan, group), style=STYLES[group.fate]), Text(copies))
    return Group(table, *map(Text, summary(plan)))
