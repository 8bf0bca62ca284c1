"""`serve`: one node, in this process, until SIGTERM or Ctrl-C."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from .examples import examples
from .failure import CommandFailed


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve", epilog=EXAMPLES)(serve)


EXAMPLES = examples(
    "ringhold serve --data-dir /var/lib/ringhold",
    "ringhold serve --config /etc/ringhold.toml --log-format json",
    "ringhold serve --data-dir d --grpc a:50051 --http a:50052 --seeds a:50052,b:50052,c:50052 --expect 3",
)


def setting(help_text: str, metavar: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(help=help_text, metavar=metavar, show_default=False)
    return option


def serve(
    context: typer.Context,
    data_dir: Annotated[str | None, setting("Where the node keeps everything; one node only. Required.", "DIR")] = None,
    grpc: Annotated[
        str | None, setting("Listen here for clients and nodes. Default 127.0.0.1:50051.", "HOST:PORT")
    ] = None,
    http: Annotated[
        str | None, setting("Listen here for gossip, health and metrics. Default 127.0.0.1:50052.", "HOST:PORT")
    ] = None,
    advertise_grpc: Annotated[str | None, setting("Where others reach --grpc, if elsewhere.", "HOST:PORT")] = None,
    advertise_http: Annotated[str | None, setting("Where others reach --http, if elsewhere.", "HOST:PORT")] = None,
    name: Annotated[str | None, setting("The node's name, unique in the cluster.", "NAME")] = None,
    cluster: Annotated[
        str | None, setting("The cluster's name; nodes of another are not spoken to. Default ringhold.", "NAME")
    ] = None,
    zone: Annotated[str | None, setting("Replicas are spread over zones, then hosts.", "ZONE")] = None,
    host: Annotated[str | None, setting("The machine, if not as it calls itself.", "HOST")] = None,
    weight: Annotated[str | None, setting("Share of the partitions, relative to others. Default 1.", "W")] = None,
    seeds: Annotated[
        str | None, setting("HTTP addresses of nodes to ask for the cluster. Without: a cluster of one.", "HOST:PORT,…")
    ] = None,
    expect: Annotated[
        str | None, setting("Form a new cluster together with the others as soon as all N are there.", "N")
    ] = None,
    engine: Annotated[str | None, setting("How data is stored. Default sqlite.", "sqlite|rocksdb")] = None,
    partitions: Annotated[
        str | None, setting("Slices of a new cluster's data, a power of two, for ever. Default 64.", "P")
    ] = None,
    replication_factor: Annotated[
        str | None, setting("Nodes that hold each partition of a new cluster, for ever. Default 3.", "RF")
    ] = None,
    reads: Annotated[
        str | None,
        setting("Who vouches for a leader: its lease, or a majority each time. Default lease.", "lease|quorum"),
    ] = None,
    disk_reserve_bytes: Annotated[
        str | None, setting("Take no Sets with less room on the disk. Default 256 MiB, at most 5 % of it.", "BYTES")
    ] = None,
    on_sigterm: Annotated[
        str | None,
        setting(
            "What SIGTERM means; kubernetes: as the StatefulSet says. Default restart.", "restart|leave|kubernetes"
        ),
    ] = None,
    log_level: Annotated[
        str | None, setting("The least important events to log. Default info.", "debug|info|warning|error")
    ] = None,
    log_format: Annotated[str | None, setting("One line per event, either way. Default text.", "text|json")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with settings.", metavar="FILE")] = None,
) -> None:
    """Run a node until SIGTERM or Ctrl-C, which end running requests first.

    Every flag is also a variable (`RINGHOLD_DATA_DIR`) and a key of the file (`data_dir`); flags win, then variables.
    """
    given = {name: value for name, value in context.params.items() if value is not None and name != "config"}
    run_until_stopped(given, config)


def run_until_stopped(flags: Mapping[str, object], file: Path | None) -> None:
    import asyncio

    from .settings import load_config

    config = load_config(flags, file)  # before the node is imported: a wrong setting is told at once
    from ..logs import configure_logs
    from ..main import StartupError, run_node

    configure_logs(config.log_level, config.log_format)
    try:
        code = asyncio.run(run_node(config))
    except StartupError as error:
        raise CommandFailed(str(error)) from error
    raise typer.Exit(code)
