"""Whether what clients of real processes learnt breaks a promise, told with the history of the key in question."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from simulation.history import Fate, History, Mutation, Page, Read
from simulation.linearizability import Undecided, verdict
from simulation.queries import timelines_of, wrong_with

from .gateways import gateway
from .load import INDEX, KEYS, WALK_MATCHES_MAX
from .nodes import NodeProcess

STORIES_MAX = 3
LOG_LINES = 40


def judge(nodes: Sequence[NodeProcess], history: History) -> None:
    """Through every gateway all acknowledged writes are there, the index agrees with the rows, and all say the same."""
    seen = []
    for node in nodes:
        with gateway(node.grpc) as asked:
            finals = [asked.read(key) for key in KEYS]
            walk = asked.walk(INDEX, WALK_MATCHES_MAX)
        history.reads += finals
        history.pages.append(walk)
        assert lost_writes(history, finals) == []
        assert disagreement(finals, walk) is None
        seen.append([(read.key, read.value, read.version, read.entries) for read in finals])
    assert all(left == right for left, right in pairwise(seen))
    wrong = complaints(history)
    assert not wrong, "\n".join(wrong)


def complaints(history: History) -> list[str]:
    """Everything that is wrong with keys (P2) and pages (P4); the first few with the history of the key."""
    return [*wrong_keys(history), *wrong_pages(history)]


def wrong_keys(history: History) -> list[str]:
    wrong: list[str] = []
    for key in history.keys_met():
        reason = reason_against(*operations_on(history, key))
        if reason is not None:
            story = f"\n{story_of(history, key)}" if len(wrong) < STORIES_MAX else ""
            wrong.append(f"{key!r}: {reason}{story}")
    return wrong


def reason_against(mutations: Sequence[Mutation], reads: Sequence[Read]) -> str | None:
    try:
        return verdict(mutations, reads)
    except Undecided as error:
        return f"the checker gave up: {error}"


def wrong_pages(history: History) -> list[str]:
    timelines = timelines_of(history.mutations, history.reads)
    wrong: list[str] = []
    for page in history.pages:
        for complaint in wrong_with(page, timelines, frozenset()):
            named = [key for key in timelines if repr(key) in complaint]
            stories = "\n".join(story_of(history, key) for key in named if len(wrong) < STORIES_MAX)
            wrong.append(f"walk {page.invoked:.3f} to {page.returned:.3f}: {complaint}\n{stories}")
    return wrong


def lost_writes(history: History, finals: Iterable[Read]) -> list[str]:
    """Keys whose last state is older than a mutation that was acknowledged (P1), with their history."""
    newest: dict[bytes, Mutation] = {}
    for mutation in history.mutations:
        if mutation.fate is Fate.DONE and (mutation.version or 0) > version_of(newest.get(mutation.key)):
            newest[mutation.key] = mutation
    return [
        f"{final.key!r} is {final.value!r} at version {final.version}, acknowledged was {acknowledged.value!r} at "
        f"{acknowledged.version}\n{story_of(history, final.key)}"
        for final in finals
        if (acknowledged := newest.get(final.key)) is not None and is_older(final, acknowledged, history)
    ]


def version_of(mutation: Mutation | None) -> int:
    return mutation.version or 0 if mutation else 0


def is_older(final: Read, acknowledged: Mutation, history: History) -> bool:
    """Whether `final` lacks the mutation: an absent record says nothing of versions, a Delete in doubt explains it."""
    if final.value is not None:
        return final.version < version_of(acknowledged)
    doubtful = any(one.key == final.key and one.value is None and one.fate is Fate.DOUBT for one in history.mutations)
    return acknowledged.value is not None and not doubtful


def disagreement(finals: Sequence[Read], walk: Page) -> str | None:
    """How an index differs from the rows, once nothing changes any more; None if it does not."""
    rows = {
        (value, read.key, read.value) for read in finals for name, value in read.entries if name == walk.query.index
    }
    found = {(*match.pair, match.value) for match in walk.found}
    if rows == found and len(found) == len(walk.found):
        return None
    return f"rows alone: {sorted(rows - found)}; index alone: {sorted(found - rows)}"


def operations_on(history: History, key: bytes) -> tuple[list[Mutation], list[Read]]:
    mutations = [mutation for mutation in history.mutations if mutation.key == key]
    return mutations, [read for read in history.reads if read.key == key]


def story_of(history: History, key: bytes) -> str:
    """What happened to a key, by the time of its invocation."""
    mutations, reads = operations_on(history, key)
    lines = sorted([*map(line_of_mutation, mutations), *map(line_of_read, reads)])
    return "\n".join([f"the history of {key!r}:", *(f"  {line}" for _, line in lines)])


def line_of_mutation(mutation: Mutation) -> tuple[float, str]:
    kind = "Delete" if mutation.value is None else f"Set {mutation.value!r}"
    span = f"{mutation.invoked:.4f} to {mutation.returned:.4f}"
    return mutation.invoked, f"{span} {kind}: {mutation.fate.value}, version {mutation.version}"


def line_of_read(read: Read) -> tuple[float, str]:
    return read.invoked, f"{read.invoked:.4f} to {read.returned:.4f} Get: {read.value!r}, version {read.version}"


def log_tails(nodes: Iterable[NodeProcess]) -> str:
    """The last lines that each node logged."""
    return "\n".join(line for node in nodes for line in log_tail(node))


def log_tail(node: NodeProcess) -> Iterator[str]:
    yield f"the log of {node.name} ends with:"
    yield from (f"  {line}" for line in node.output.splitlines()[-LOG_LINES:])
