"""Runs by h2load against servers that count what they answer, and against the echo."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .echo import path_of
from .failure import RunVoid
from .figures import Run, percentiles
from .load import Driver, Sent, Stream, drive, drive_paced
from .servers import CountingServers, EchoServers
from .workloads import Workload

ECHO = "echo"
ATTEMPTS_MAX = 5
"""At one run, while the owners of its keys move."""

FRAME_HEADER_BYTES = 5
PROBE_REQUESTS_PER_SLOT = 25
OPEN_LOOP_SHARE = 0.5
"""Of the rate at saturation."""


class Sized(ABC):
    """A trial that learns, from a probe and then from each run, how many requests take as long as it should."""

    def __init__(self, contestant: str) -> None:
        self.contestant = contestant
        self._per_slot_per_s: float | None = None

    @abstractmethod
    def send(self, number: int, requests_per_slot: int) -> Run:
        """So many requests for each one in flight; `number` counts the rounds. Raises RunVoid."""

    def run(self, number: int, seconds: float) -> Run:
        """Raises RunVoid."""
        if self._per_slot_per_s is None:
            self._sent(number, PROBE_REQUESTS_PER_SLOT)
        return self._sent(number, self._requests_per_slot(seconds))

    def _requests_per_slot(self, seconds: float) -> int:
        assert self._per_slot_per_s is not None
        return max(PROBE_REQUESTS_PER_SLOT, round(self._per_slot_per_s * seconds))

    def _sent(self, number: int, requests_per_slot: int) -> Run:
        found = self.send(number, requests_per_slot)
        self._per_slot_per_s = requests_per_slot / found.seconds
        return found


class ByH2load(Sized):
    """A trial whose streams h2load sends, as fast as answers come or at a pace."""

    @abstractmethod
    def drive(self, driver: Driver, number: int) -> Run:
        """Send the streams of a round as `driver` does. Raises RunVoid."""

    def send(self, number: int, requests_per_slot: int) -> Run:
        return self.drive(lambda streams: drive(streams, requests_per_slot), number)


class Counted(ByH2load):
    """Against servers that count: unless they count every request as answered well, and no other, the run is void."""

    def __init__(self, contestant: str, workload: Workload, servers: CountingServers) -> None:
        super().__init__(contestant)
        self._workload = workload
        self._servers = servers

    def drive(self, driver: Driver, number: int) -> Run:
        """Anew if an owner moved meanwhile: then the figure would be of something else. Raises RunVoid."""
        for _ in range(ATTEMPTS_MAX):
            streams = self._workload.streams(number)
            found = self._counted(driver, streams)
            if self._workload.streams(number) == streams:
                return found
        raise RunVoid(f"{self._workload.title}: owners moved during {ATTEMPTS_MAX} runs in a row")

    def _counted(self, driver: Driver, streams: Sequence[Stream]) -> Run:
        calls_before = self._servers.finished_calls()
        cpu_before_s = self._servers.cpu_s()
        sent = driver(streams)
        cpu_s = self._servers.cpu_s() - cpu_before_s
        calls = self._servers.finished_calls() - calls_before
        if calls != {(self._workload.method, "OK"): sent.requests}:
            raise RunVoid(f"{self._workload.title}: of {sent.requests} requests the servers count {dict(calls)}")
        return run_of(self._workload, sent, cpu_s)


class Echoed(ByH2load):
    """The same bodies to the echo servers, over as many connections; void if a byte of the answers is missing."""

    def __init__(self, workload: Workload, servers: EchoServers, echo_of: Mapping[str, str]) -> None:
        """`echo_of` gives the echo server that stands for a node, by their addresses."""
        super().__init__(ECHO)
        self._workload = workload
        self._servers = servers
        self._echo_of = echo_of

    def drive(self, driver: Driver, number: int) -> Run:
        cpu_before_s = self._servers.cpu_s()
        sent = driver([self._echoed(stream) for stream in self._workload.streams(number)])
        cpu_s = self._servers.cpu_s() - cpu_before_s
        if sent.answer_bytes != sent.requests * (self._workload.answer_bytes + FRAME_HEADER_BYTES):
            raise RunVoid(f"the echo answered {sent.answer_bytes} bytes to {sent.requests} requests")
        return run_of(self._workload, sent, cpu_s)

    def _echoed(self, stream: Stream) -> Stream:
        return replace(stream, address=self._echo_of[stream.address], path=path_of(self._workload.answer_bytes))


class Paced:
    """An open loop at half of the rate that a run at saturation had right before."""

    def __init__(self, saturated: ByH2load) -> None:
        self.contestant = saturated.contestant
        self._saturated = saturated

    def run(self, number: int, seconds: float) -> Run:
        """Raises RunVoid."""
        per_s = OPEN_LOOP_SHARE * self._saturated.run(number, seconds).rate
        return self._saturated.drive(lambda streams: drive_paced(streams, per_s, seconds), number)


def run_of(workload: Workload, sent: Sent, cpu_s: float) -> Run:
    operations = sent.requests * workload.operations_per_request
    return Run(operations, sent.seconds, cpu_s, percentiles(sent.latencies_us))
