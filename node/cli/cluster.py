"""`status`, `ring` and `explain`: what the cluster is made of and where keys live."""

from typing import Annotated

import typer

from .examples import examples
from .options import ENDPOINTS_DEFAULT, Endpoints, Output, Timeout, as_bytes, connect
from .output import Form, show


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status", epilog=STATUS_EXAMPLES)(show_status)
    app.command("ring", epilog=RING_EXAMPLES)(show_ring)
    app.command("explain", epilog=EXPLAIN_EXAMPLES)(explain_key)


STATUS_EXAMPLES = examples(
    "ringhold status", "ringhold status --watch", "ringhold status --endpoints 10.0.0.1:50051,10.0.0.2:50051 -o json"
)


def show_status(
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until nothing moves any more.")] = False,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Show the nodes, what they hold, and what is on the move between them."""
    from .cluster_views import status_view

    with connect(endpoints, timeout) as client:
        if watch:
            from .watching import watch as watch_cluster

            return watch_cluster(client, output)
        status = client.status()
    return show(output, status_view(status))


RING_EXAMPLES = examples("ringhold ring", "ringhold ring -o plain | cut -f2 | sort | uniq -c")


def show_ring(endpoints: Endpoints = ENDPOINTS_DEFAULT, output: Output = Form.TABLE, timeout: Timeout = 10.0) -> None:
    """Show which node leads, and which ones hold, each partition."""
    from .cluster_views import ring_view

    with connect(endpoints, timeout) as client:
        topology = client.topology()
    show(output, ring_view(topology))


EXPLAIN_EXAMPLES = examples("ringhold explain user:7")


def explain_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key.", show_default=False)],
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Show where a key lives (it need not exist), and what is stored under it."""
    from .cluster_views import explanation_view

    with connect(endpoints, timeout) as client:
        explanation = client.explain(as_bytes(key))
    show(output, explanation_view(explanation))
