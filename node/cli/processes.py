"""Node processes on this machine, started, watched and stopped together: what `dev` and the demo run on."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from ..config import parse_address
from .failure import CommandFailed

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 1.0
SIGNAL_INTERVAL_S = 1.0  # a terminal and a wrapper (make, timeout) may both pass on the same Ctrl-C
READ_BYTES = 64 * 1024
LINE_BYTES_MAX = 1024 * 1024
STOPPED_WELL = (0, -signal.SIGTERM)  # the latter: it was so young that it had nothing to end

Report: TypeAlias = Callable[[str, str], None]
"""Told the name of a node and a line about it."""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node to run: its name, the addresses that it listens on, its folder."""

    name: str
    grpc: str
    http: str
    data_dir: Path


class LocalCluster:
    """Runs nodes as child processes while it is entered; leaving it stops them all.

    Entering returns when the processes are started; `wait_until_ready` says when they serve. A child that dies is
    reported, the others go on. Children are in process groups of their own, so that Ctrl-C reaches only this process.
    """

    def __init__(self, nodes: Sequence[LocalNode], report: Report, arguments: Sequence[str] = ()) -> None:
        self._nodes = nodes
        self._report = report
        self._arguments = arguments
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._attendants: list[asyncio.Task[None]] = []
        self._is_stopping = False

    @property
    def endpoints(self) -> list[str]:
        """The gRPC addresses, in the order of the nodes."""
        return [node.grpc for node in self._nodes]

    @property
    def living(self) -> list[str]:
        """The names of the nodes whose processes run."""
        return [name for name, process in self._processes.items() if process.returncode is None]

    async def __aenter__(self) -> Self:
        refuse_occupied_ports(self._nodes)
        try:
            for node in self._nodes:
                await self._start(node)
        except OSError as error:
            await self.stop()
            raise CommandFailed(f"a node can't be started: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait_until_ready(self) -> None:
        """Return when all nodes serve. Raises CommandFailed if one dies before, or after READY_TIMEOUT_S."""
        waiting = list(self._nodes)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while waiting := [node for node in waiting if not await is_ready(node.http)]:
                    self._refuse_dead()
                    await asyncio.sleep(POLL_INTERVAL_S)
        except TimeoutError:
            names = ", ".join(node.name for node in waiting)
            raise CommandFailed(f"after {READY_TIMEOUT_S:.0f} s not ready: {names}") from None

    async def wait_until_dead(self) -> None:
        """Return when no process is left."""
        await asyncio.wait(self._attendants)

    async def stop(self) -> list[str]:
        """Let all processes end by themselves, kill those that take longer than STOP_TIMEOUT_S, and reap them.

        Returns how those ended, in words, that ran at the call and did not end well.
        """
        self._is_stopping = True
        running = self.living
        self._send(signal.SIGTERM)
        late = await still_running(self._attendants, STOP_TIMEOUT_S)
        if late:
            for name in self.living:
                self._report(name, f"did not stop in {STOP_TIMEOUT_S:.0f} s and is killed")
            self.kill()
            await asyncio.wait(late)
        codes = {name: self._processes[name].returncode for name in running}
        return [f"{name} {ending(code)}" for name, code in codes.items() if code not in STOPPED_WELL]

    def kill(self) -> None:
        """End all processes at once."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)

    async def _start(self, node: LocalNode) -> None:
        node.data_dir.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *self._command(node),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
        )
        self._processes[node.name] = process
        self._attendants.append(asyncio.create_task(self._attend(node.name, process), name=f"attend {node.name}"))

    def _command(self, node: LocalNode) -> list[str]:
        command = [sys.executable, "-P", "-m", "ringhold", "serve", "--name", node.name]
        command += ["--data-dir", str(node.data_dir), "--grpc", node.grpc, "--http", node.http, *self._arguments]
        if len(self._nodes) > 1:
            seeds = ",".join(each.http for each in self._nodes)
            command += ["--seeds", seeds, "--expect", str(len(self._nodes))]
        return command

    async def _attend(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in lines_of(process.stdout):
            self._report(name, line)
        code = await process.wait()
        if not self._is_stopping:
            self._report(name, f"{ending(code)}, the others go on" if self.living else ending(code))

    def _refuse_dead(self) -> None:
        dead = [name for name in self._processes if name not in self.living]
        if dead:
            process = self._processes[dead[0]]
            raise CommandFailed(f"{dead[0]} did not start: it {ending(process.returncode)}; its last lines say why")


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream without their ends; overlong ones in pieces."""
    rest = b""
    while chunk := await stream.read(READ_BYTES):
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            yield line.decode(errors="replace")
        if len(rest) > LINE_BYTES_MAX:
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")


def ending(code: int | None) -> str:
    """How a process ended, in words.

    >>> ending(1), ending(-9)
    ('ended with exit code 1', 'was killed by SIGKILL')
    """
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def is_ready(http: str) -> bool:
    """Whether the node at this HTTP address serves."""
    host, port = parse_address(http, "http")
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return b" 200 " in await status_line(host, port, "/health/ready")
    except OSError:  # refused, reset, timed out
        return False


async def status_line(host: str, port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return await reader.readline()
    finally:
        writer.close()


def refuse_occupied_ports(nodes: Sequence[LocalNode]) -> None:
    """Raise CommandFailed if one of the nodes could not listen."""
    for address in [address for node in nodes for address in (node.grpc, node.http)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(parse_address(address, "grpc"))
            except OSError as error:
                raise CommandFailed(f"{address} can't be used: {os.strerror(error.errno or 0)}") from error


def stop_on_signals(cluster: LocalCluster) -> asyncio.Event:
    """An event that SIGINT, SIGTERM or SIGHUP sets; one that comes SIGNAL_INTERVAL_S later or more kills the nodes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_at: float | None = None

    def stop_or_kill() -> None:
        nonlocal first_at
        first_at = first_at or loop.time()
        stop.set()
        if loop.time() - first_at >= SIGNAL_INTERVAL_S:
            cluster.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop_or_kill)
    return stop


async def ends_before(work: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool:
    """Run `work` until it ends (True; raises what it raises) or `stop` is set (False; `work` is cancelled)."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    has_ended = task.done()
    task.cancel()
    stopping.cancel()
    await asyncio.wait((task, stopping))
    if has_ended:
        task.result()
    return has_ended


async def still_running(tasks: Sequence[asyncio.Task[None]], timeout_s: float) -> set[asyncio.Task[None]]:
    """The tasks that have not ended after `timeout_s`."""
    if not tasks:
        return set()
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    return late
