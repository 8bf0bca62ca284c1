"""Load by h2load, which costs a fraction of what a Python client would: several processes, one body each.

h2load knows HTTP/2 and not gRPC: whether the answers were good is counted on the servers.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeAlias

from .failure import BenchmarkFailed, RunVoid

GENERATOR_SHARE_MAX = 0.9
SILENCE_S_MAX = 10
START_S = 0.02  # what it takes to start; the time that h2load reports begins later, its CPU time does not
PACED_PER_S_MAX = 80
"""Requests per second of one paced process: its timer has steps of 10 ms, and this many need no two in one of them."""

PACED_IN_FLIGHT_MAX = 1_000
"""So many that a slow server never holds a paced process back."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What one h2load process does: one body to one server over one connection, so many at a time."""

    address: str
    path: str
    body: bytes
    in_flight: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What all processes together did, from the first request to the last answer.

    Latencies, in microseconds, are those since all processes have begun.
    """

    requests: int
    seconds: float
    answer_bytes: int
    latencies_us: Sequence[float]


Driver: TypeAlias = Callable[[Sequence[Stream]], Sent]


@dataclass(frozen=True, slots=True)
class Order:
    """What one process sends: so many requests, at a steady rate if there is one, else as fast as answers come."""

    stream: Stream
    requests: int
    per_s: float | None = None


@dataclass(slots=True)
class Generator:
    """A running h2load."""

    process: subprocess.Popen[bytes]
    order: Order
    folder: Path


@dataclass(frozen=True, slots=True)
class Timing:
    """A request: when it was sent, in microseconds since 1970, and how long it took."""

    sent_at_us: float
    took_us: float

    @property
    def ended_at_us(self) -> float:
        return self.sent_at_us + self.took_us


def require_h2load() -> None:
    """Raises BenchmarkFailed unless h2load is there."""
    if shutil.which("h2load") is None:
        raise BenchmarkFailed("the benchmarks need h2load: run make system-tools")


def drive(streams: Sequence[Stream], requests_per_slot: int) -> Sent:
    """Send `requests_per_slot` requests for each one that a stream has in flight. Raises RunVoid."""
    return carried_out([Order(stream, requests_per_slot * stream.in_flight) for stream in streams])


def drive_paced(streams: Sequence[Stream], requests_per_s: float, seconds: float) -> Sent:
    """Send at a steady rate whether answers come or not (an open loop): what one request suffers, the next ones do too.

    Latencies count from when a request was to be sent. Each stream runs in as many processes as its share of the rate
    needs. Raises RunVoid.
    """
    copies = ceil(requests_per_s / len(streams) / PACED_PER_S_MAX)
    per_s = requests_per_s / len(streams) / copies
    requests = max(1, round(per_s * seconds))
    return carried_out([Order(stream, requests, per_s) for stream in streams for _ in range(copies)])


def carried_out(orders: Sequence[Order]) -> Sent:
    """Raises RunVoid."""
    with tempfile.TemporaryDirectory(prefix="h2load-") as folder:
        generators = [start(order, Path(folder, str(number))) for number, order in enumerate(orders)]
        answer_bytes = sum([finish(generator) for generator in generators])
        logs = [(generator.order, timings_of(generator.folder / "log")) for generator in generators]
    timings = [timing for _, log in logs for timing in log]
    micros = max(timing.ended_at_us for timing in timings) - min(timing.sent_at_us for timing in timings)
    latencies_us = steady_latencies_us([as_due(log, order.per_s) for order, log in logs])
    return Sent(sum(order.requests for order in orders), micros / 1e6, answer_bytes, latencies_us)


def start(order: Order, folder: Path) -> Generator:
    folder.mkdir()
    (folder / "body").write_bytes(order.stream.body)
    in_flight = order.stream.in_flight if order.per_s is None else PACED_IN_FLIGHT_MAX
    command = ["h2load", f"--requests={order.requests}", "--clients=1", "--threads=1"]
    command += [f"--max-concurrent-streams={in_flight}", f"--connection-inactivity-timeout={SILENCE_S_MAX}"]
    command += [f"--data={folder / 'body'}", "--header=te: trailers", "--header=content-type: application/grpc"]
    command += [f"--log-file={folder / 'log'}"]
    if order.per_s is not None:
        command.append(f"--rps={order.per_s:.3f}")
    url = f"http://{order.stream.address}{order.stream.path}"
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([*command, url], stdout=output, stderr=output)
    return Generator(process, order, folder)


def finish(generator: Generator) -> int:
    """Wait for the end; bytes of all answers. Raises RunVoid."""
    _, status, usage = os.wait4(generator.process.pid, 0)
    generator.process.returncode = os.waitstatus_to_exitcode(status)
    output = (generator.folder / "output").read_text()
    seconds, succeeded, answer_bytes = parsed(output)
    if succeeded != generator.order.requests:
        raise RunVoid(f"{generator.order.requests} requests were sent and {succeeded} answered:\n{output}")
    share = (usage.ru_utime + usage.ru_stime) / (START_S + seconds)
    if share > GENERATOR_SHARE_MAX:
        raise RunVoid(f"the generator took {share:.0%} of a core: it was what was measured")
    return answer_bytes


def parsed(output: str) -> tuple[float, int, int]:
    """Seconds, answers with status 200, and bytes of data of a report of h2load. Raises RunVoid.

    >>> parsed("finished in 2.50s, 6\\nstatus codes: 20 2xx, 0 3xx\\ntraffic: 1B (1) headers, 42.9KB (44000) data")
    (2.5, 20, 44000)
    """
    time_spent = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", output)
    succeeded = re.search(r"status codes: (\d+) 2xx", output)
    answer_bytes = re.search(r"\((\d+)\) data", output)
    if time_spent is None or succeeded is None or answer_bytes is None:
        raise RunVoid(f"h2load reports nothing: {output}")
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[time_spent[2]]
    return float(time_spent[1]) * unit_s, int(succeeded[1]), int(answer_bytes[1])


def timings_of(log: Path) -> list[Timing]:
    """The first and third column of h2load's log; the second is the HTTP status."""
    columns = [line.split("\t") for line in log.read_text().splitlines()]
    return [Timing(float(sent_at), float(took)) for sent_at, _, took, *_ in columns]


def as_due(log: Sequence[Timing], per_s: float | None) -> list[Timing]:
    """The requests of one process; at a steady rate each from when it was to be sent, if that was earlier.

    >>> as_due([Timing(0, 900_000), Timing(800_000, 100_000)], per_s=2)
    [Timing(sent_at_us=0.0, took_us=900000.0), Timing(sent_at_us=500000.0, took_us=400000.0)]
    """
    if per_s is None:
        return list(log)
    ordered = sorted(log, key=lambda timing: timing.sent_at_us)
    first = ordered[0].sent_at_us
    due = (min(each.sent_at_us, first + number * 1e6 / per_s) for number, each in enumerate(ordered))
    return [Timing(float(at), float(each.ended_at_us - at)) for each, at in zip(ordered, due, strict=True)]


def steady_latencies_us(logs: Sequence[Sequence[Timing]]) -> list[float]:
    """Of the requests since all processes have begun: to start a process takes time of the processor.

    >>> steady_latencies_us([[Timing(0, 1), Timing(10, 2)], [Timing(5, 3)]])
    [2, 3]
    """
    all_began_at_us = max(min(timing.sent_at_us for timing in log) for log in logs)
    return [timing.took_us for log in logs for timing in log if timing.sent_at_us >= all_began_at_us]
