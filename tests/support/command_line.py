"""Runs command lines in this process, against a cluster of fakes."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ringhold.node.cli.app import main

from .fake_server import FakeCluster


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end."""

    code: int
    out: bytes
    err: str


Ringhold = Callable[..., Ended]


def command_line(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Ringhold:
    """A function that runs a command line whose endpoints are those of the fakes."""
    monkeypatch.setenv("RINGHOLD_ENDPOINTS", ",".join(cluster.endpoints))

    def run(*arguments: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(arguments)
        captured = capsysbinary.readouterr()
        return Ended(code, captured.out, captured.err.decode())

    return run
