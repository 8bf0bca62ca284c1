"""Load by h2load, which costs a fraction of what a Python client would: several processes, one body each.

h2load knows HTTP/2 and not gRPC: whether the answers were good is counted on the servers.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .failure import BenchmarkFailed, RunVoid

GENERATOR_SHARE_MAX = 0.9
SILENCE_S_MAX = 10
START_S = 0.02  # what it takes to start; the time that h2load reports begins later, its CPU time does not


@dataclass(frozen=True, slots=True)
class Stream:
    """What one h2load process does: one body to one server over one connection, so many at a time."""

    address: str
    path: str
    body: bytes
    in_flight: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What all processes together did. Latencies, in microseconds, are there if they were asked for."""

    requests: int
    seconds: float
    answer_bytes: int
    latencies_us: Sequence[int]


@dataclass(slots=True)
class Generator:
    """A running h2load."""

    process: subprocess.Popen[bytes]
    requests: int
    folder: Path


def require_h2load() -> None:
    """Raises BenchmarkFailed unless h2load is there."""
    if shutil.which("h2load") is None:
        raise BenchmarkFailed("the benchmarks need h2load: run make system-tools")


def drive(streams: Sequence[Stream], requests_per_slot: int, *, with_latencies: bool = False) -> Sent:
    """Send `requests_per_slot` requests for each one that a stream has in flight. Raises RunVoid."""
    with tempfile.TemporaryDirectory(prefix="h2load-") as folder:
        began = time.perf_counter()
        generators = [
            start(stream, requests_per_slot * stream.in_flight, Path(folder, str(number)), with_latencies)
            for number, stream in enumerate(streams)
        ]
        answer_bytes = sum(finish(generator) for generator in generators)
        seconds = time.perf_counter() - began
        latencies = [latency for generator in generators for latency in latencies_of(generator.folder)]
        return Sent(sum(generator.requests for generator in generators), seconds, answer_bytes, latencies)


def start(stream: Stream, requests: int, folder: Path, with_latencies: bool) -> Generator:
    folder.mkdir()
    (folder / "body").write_bytes(stream.body)
    command = ["h2load", f"--requests={requests}", "--clients=1", "--threads=1"]
    command += [f"--max-concurrent-streams={stream.in_flight}", f"--connection-inactivity-timeout={SILENCE_S_MAX}"]
    command += [f"--data={folder / 'body'}", "--header=te: trailers", "--header=content-type: application/grpc"]
    if with_latencies:
        command.append(f"--log-file={folder / 'latencies'}")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen([*command, f"http://{stream.address}{stream.path}"], stdout=output, stderr=output)
    return Generator(process, requests, folder)


def finish(generator: Generator) -> int:
    """Wait for the end; bytes of all answers. Raises RunVoid."""
    _, status, usage = os.wait4(generator.process.pid, 0)
    generator.process.returncode = os.waitstatus_to_exitcode(status)
    output = (generator.folder / "output").read_text()
    seconds, succeeded, answer_bytes = parsed(output)
    if succeeded != generator.requests:
        raise RunVoid(f"{generator.requests} requests were sent and {succeeded} answered:\n{output}")
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


def latencies_of(folder: Path) -> list[int]:
    """The third column of h2load's log, microseconds; nothing if there is no log."""
    log = folder / "latencies"
    return [int(line.split("\t")[2]) for line in log.read_text().splitlines()] if log.exists() else []
