"""`scrub`: nodes read all that they have stored, and say what is damaged."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ...api.errors import InDoubt, RingholdError
from .app import say
from .examples import examples
from .failure import CommandFailed, ExitCode, exit_code_of, sentence
from .options import ENDPOINTS_DEFAULT, Endpoints, Output, Timeout, connect
from .output import Form, show

if TYPE_CHECKING:
    from ...api.proto.ringhold.v1.cluster_pb2 import Damage, ScrubProgress, UnhealthyReplica

Tell: TypeAlias = "Callable[[ScrubProgress], None]"


@dataclass(frozen=True, slots=True)
class Target:
    """A node to be scrubbed; its name is empty if it is whichever answers there."""

    address: str
    name: str


@dataclass(slots=True)
class Report:
    """What the scrub of a node came to; `refusal` says why there was none, or why it broke off."""

    node: str
    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    uncounted: int = 0
    damage: "list[Damage]" = field(default_factory=list)
    unhealthy: "Sequence[UnhealthyReplica]" = ()
    refusal: RingholdError | None = None

    def take(self, message: "ScrubProgress") -> None:
        self.node, self.uncounted = message.node, message.uncounted
        self.records, self.bytes, self.seconds = message.records, message.bytes, message.seconds
        self.damage += message.damage
        self.unhealthy = list(message.unhealthy)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("scrub", epilog=EXAMPLES)(scrub_nodes)


EXAMPLES = examples("ringhold scrub --all", "ringhold scrub --node node-2 --rate 10000000")


def scrub_nodes(
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="The node to scrub. Default: the first endpoint's.")
    ] = None,
    all_nodes: Annotated[bool, typer.Option("--all", help="Scrub all nodes, one after the other.")] = False,
    rate: Annotated[
        int,
        typer.Option("--rate", metavar="BYTES", min=0, help="Bytes to read per second; 0: as fast as it goes."),
    ] = 0,
    endpoints: Endpoints = ENDPOINTS_DEFAULT,
    output: Output = Form.TABLE,
    timeout: Timeout = 10.0,
) -> None:
    """Have nodes read all that they have stored, and find what is damaged. Ctrl-C ends it.

    What is damaged is rebuilt from other replicas, or mended. The exit code is 1 if there was anything.
    """
    from .scrub_views import scrub_view

    if node and all_nodes:
        raise CommandFailed("give --node or --all, not both", ExitCode.USAGE)
    reports = [scrubbed(target, rate) for target in targets(endpoints, node, all_nodes, timeout)]
    answered = [report for report in reports if report.refusal is None]
    if answered:
        show(output, scrub_view(answered))
    codes = [refused(report) for report in reports if report.refusal is not None]
    if any(report.damage for report in answered):
        codes.append(ExitCode.FAILURE)
    if codes:
        raise typer.Exit(codes[0])


def targets(endpoints: str, node: str | None, all_nodes: bool, timeout_s: float) -> list[Target]:
    """The nodes that are meant. Raises CommandFailed for a name that no node has."""
    with connect(endpoints, timeout_s) as client:
        if node is None and not all_nodes:
            return [Target(endpoints.split(",", maxsplit=1)[0].strip(), "")]
        known = [each for each in client.topology().nodes if each.state != "REMOVED"]
    named = [Target(each.grpc_address, each.name) for each in known if all_nodes or each.name == node]
    if not named:
        names = ", ".join(each.name for each in known)
        raise CommandFailed(f"no node is named {node}, there are {names}", ExitCode.USAGE)
    return named


def scrubbed(target: Target, rate: int) -> Report:
    """Scrub a node to its end."""
    import grpc

    from ...api.proto.ringhold.v1.cluster_pb2 import ScrubRequest
    from ...api.proto.ringhold.v1.cluster_pb2_grpc import ClusterStub
    from ...api.status import from_rpc_error

    report = Report(target.name or target.address)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target.address, options) as channel, progress_of(report.node) as tell:
        try:
            for message in ClusterStub(channel).Scrub(ScrubRequest(node=target.name, bytes_per_s=rate)):
                report.take(message)
                tell(message)
        except grpc.RpcError as error:
            report.refusal = from_rpc_error(error)
    return report


def refused(report: Report) -> ExitCode:
    """Say why a node was not scrubbed."""
    assert report.refusal is not None
    if isinstance(report.refusal, InDoubt):
        say(f"{report.node}: the scrub broke off: {report.refusal.message}")
        return ExitCode.UNAVAILABLE
    say(f"{report.node}: {sentence(report.refusal)}")
    return exit_code_of(report.refusal)


def progress_of(name: str) -> AbstractContextManager[Tell]:
    """A line that says how far it is, on a terminal only."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _message: None)
    from .progress import scrub_progress

    return scrub_progress(name)
