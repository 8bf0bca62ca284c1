"""`node`, `cluster` and `plan`: orders that change what the cluster is made of, and what they would do."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from .examples import examples
from .failure import CommandFailed, ExitCode
from .options import ENDPOINTS_DEFAULT, Endpoints, Output, Timeout, connect
from .output import Form, show

if TYPE_CHECKING:
    from ...api.client import Order

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the node.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    node = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help=NODE_HELP, epilog=NODE_EXAMPLES)
    node.command("decommission", epilog=DECOMMISSION_EXAMPLES)(decommission_node)
    node.command("keep", epilog=KEEP_EXAMPLES)(keep_node)
    node.command("remove", epilog=REMOVE_EXAMPLES)(remove_node)
    node.command("cordon", epilog=CORDON_EXAMPLES)(cordon_node)
    node.command("uncordon", epilog=UNCORDON_EXAMPLES)(uncordon_node)
    app.add_typer(node, name="node")
    cluster = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help=CLUSTER_HELP, epilog=SET_EXAMPLES)
    cluster.callback()(lambda: None)  # without one, Typer takes the only command for the whole group
    cluster.command("set", epilog=SET_EXAMPLES)(set_settings)
    app.add_typer(cluster, name="cluster")
    app.command("plan", epilog=PLAN_EXAMPLES)(show_plan)


NODE_HELP = "Have a node leave, stay, or get no more replicas. What the nodes are doing: `ringhold status`."
NODE_EXAMPLES = examples("ringhold node decommission node-3 --wait", "ringhold node cordon node-2")
CLUSTER_HELP = "Change what holds for the whole cluster."


DECOMMISSION_EXAMPLES = examples("ringhold node decommission node-3", "ringhold node decommission node-3 --wait")


def decommission_node(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has left; Ctrl-C ends the waiting.")] = False,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Have a node leave for good. It serves until its last replica has moved; then its process ends."""
    from .change_views import change_view, left_view

    with connect(endpoints, timeout) as client:
        change = client.decommission(name)
        show(output, change_view(f"{name} leaves", change))
        if not wait:
            return
        from .watching import wait_until_gone

        wait_until_gone(client, name, change.epoch)
    if output is Form.TABLE:
        show(output, left_view(name))


KEEP_EXAMPLES = examples("ringhold node keep node-3")


def keep_node(
    name: Name,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Take a decommission back, while the node is not gone."""
    from ...api.client import KeepNode

    give(KeepNode(name), what=f"{name} stays", endpoints=endpoints, output=output, timeout_s=timeout)


REMOVE_EXAMPLES = examples("ringhold node remove node-3 --force")


def remove_node(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Do it: the node is dead for good.")] = False,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Give a node up that is dead for good: its replicas are made anew elsewhere. Refused while it is alive."""
    from ...api.changes import check_node_name
    from ...api.client import RemoveNode

    check_node_name(name)
    if not force:
        raise CommandFailed(
            f"nothing was changed. {name} would be given up for good: it can't come back, and what only it has is lost."
            f" If it can still run, use `ringhold node decommission {name}`; if it is dead for good, add --force",
            ExitCode.USAGE,
        )
    give(RemoveNode(name), what=f"{name} is removed", endpoints=endpoints, output=output, timeout_s=timeout)


CORDON_EXAMPLES = examples("ringhold node cordon node-3")


def cordon_node(
    name: Name,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Give a node no more replicas; it keeps those that it has."""
    from ...api.client import CordonNode

    give(CordonNode(name), what=f"{name} gets no more replicas", endpoints=endpoints, output=output, timeout_s=timeout)


UNCORDON_EXAMPLES = examples("ringhold node uncordon node-3")


def uncordon_node(
    name: Name,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Let a node have replicas again."""
    from ...api.client import UncordonNode

    give(UncordonNode(name), what=f"{name} gets replicas again", endpoints=endpoints, output=output, timeout_s=timeout)


SET_EXAMPLES = examples("ringhold cluster set rf=5")


def set_settings(
    settings: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE…", help="rf=N: replicas of each partition.", show_default=False)
    ],
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Change settings of the cluster: `rf`, the number of replicas that each partition has."""
    orders = [order_of(setting) for setting in settings]
    give(*orders, what=" ".join(settings), endpoints=endpoints, output=output, timeout_s=timeout)


PLAN_EXAMPLES = examples(
    "ringhold plan --add 2", "ringhold plan --decommission node-1 --add 1", "ringhold plan --rf 5 -o json"
)


def show_plan(
    add: Annotated[
        int | None, typer.Option("--add", metavar="N", help="So many more nodes, each on a host of its own.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="This node is lost. Repeatable.")
    ] = None,
    decommission: Annotated[
        list[str] | None, typer.Option("--decommission", metavar="NAME", help="This node leaves. Repeatable.")
    ] = None,
    rf: Annotated[int | None, typer.Option("--rf", metavar="N", help="So many replicas of each partition.")] = None,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Show what changes would do together: what moves, how long it takes, who holds what then. Changes nothing."""
    from ...api.client import AddNodes, DecommissionNode, RemoveNode, SetReplicationFactor
    from .change_views import plan_view

    orders: list[Order] = [] if add is None else [AddNodes(add)]
    orders += map(RemoveNode, remove or ())
    orders += map(DecommissionNode, decommission or ())
    orders += [] if rf is None else [SetReplicationFactor(rf)]
    if not orders:
        raise CommandFailed("say what is planned: --add, --remove, --decommission or --rf", ExitCode.USAGE)
    with connect(endpoints, timeout) as client:
        plan = client.change(*orders, dry_run=True)
    show(output, plan_view(plan))


def give(*orders: "Order", what: str, endpoints: str, output: Form, timeout_s: float) -> None:
    """Give the cluster orders, and show what comes of `what` they say."""
    from .change_views import change_view

    with connect(endpoints, timeout_s) as client:
        change = client.change(*orders)
    show(output, change_view(what, change))


def order_of(setting: str) -> "Order":
    """The order of a KEY=VALUE; raises CommandFailed."""
    key, equals, value = setting.partition("=")
    if not equals:
        raise CommandFailed(f"{setting}: write KEY=VALUE, for instance rf=5", ExitCode.USAGE)
    if key not in SETTINGS:
        raise CommandFailed(f"there is no setting {key!r}, there is {', '.join(SETTINGS)}", ExitCode.USAGE)
    return SETTINGS[key](value)


def replication_factor(value: str) -> "Order":
    from ...api.client import SetReplicationFactor

    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise CommandFailed(f"rf={value}: rf is a whole number, for instance rf=5", ExitCode.USAGE)
    return SetReplicationFactor(int(value))


SETTINGS: Mapping[str, Callable[[str], "Order"]] = {"rf": replication_factor}
"""What `cluster set` can set, by key."""
