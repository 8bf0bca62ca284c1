"""Options that the data commands share, and the client that they give."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ..config import parse_address
from .output import Form

if TYPE_CHECKING:
    from ...api.client import Client, Consistency

ENDPOINTS_DEFAULT = "127.0.0.1:50051"

Endpoints = Annotated[
    str,
    typer.Option(
        "--endpoints",
        envvar="RINGHOLD_ENDPOINTS",
        metavar="HOST:PORT,…",
        help="gRPC addresses of nodes; any will do, several survive the loss of one.",
    ),
]
Output = Annotated[
    Form, typer.Option("--output", "-o", help="table for people, json (one object per line) or plain for scripts.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Give up after this time, retries included.")
]
Stale = Annotated[
    bool,
    typer.Option(
        "--stale", help="Read what the nearest replica has, though it may be behind; the answer says how far it may be."
    ),
]


def connect(endpoints: str, timeout_s: float) -> "Client":
    """A client of the nodes named in `a:p,b:p`; raises ConfigError."""
    from ...api.client import Client

    addresses = [address.strip() for address in endpoints.split(",") if address.strip()]
    for address in addresses or [endpoints]:
        parse_address(address, "endpoints")
    return Client(addresses, timeout_s=timeout_s)


def consistency_of(stale: bool) -> "Consistency":
    """What `--stale`, or its absence, asks of a read."""
    return "stale" if stale else "linearizable"


def as_bytes(argument: str) -> bytes:
    """The bytes that the shell gave, whether they are text or not."""
    return os.fsencode(argument)
