"""Hundreds of callers of one AsyncClient on real nodes: shared calls give what calls of their own give."""

import asyncio
import random
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import pytest
from support.nodes import NodeProcess

from ringhold import AsyncClient, ClientConfig, InvalidRequest, KeyNotFound, Record, RingholdError

CALLERS = 200
CALLERS_APART = 50
"""So many at a time make calls of their own: a new connection refuses more than 256, which leaves them in doubt."""
TURNS = 8
KIB = 1024
TIMEOUT_S = 60.0

PASSING = {"partition", "log_time_ms", "behind_ms"}

Outcome: TypeAlias = tuple[Any, ...]


@pytest.fixture
async def coalescing(shared_three: Sequence[NodeProcess]) -> AsyncIterator[AsyncClient]:
    """Its attempts have all the time there is: on a busy machine some would be in doubt, and the outcome with them."""
    config = ClientConfig(attempt_timeout_s=TIMEOUT_S)
    async with AsyncClient([node.grpc for node in shared_three], timeout_s=TIMEOUT_S, config=config) as client:
        yield client


@pytest.fixture
async def apart(shared_three: Sequence[NodeProcess]) -> AsyncIterator[AsyncClient]:
    """Every operation of this client is a call of its own."""
    config = ClientConfig(attempt_timeout_s=TIMEOUT_S, coalesce=False)
    async with AsyncClient([node.grpc for node in shared_three], timeout_s=TIMEOUT_S, config=config) as client:
        yield client


def calls_of(nodes: Sequence[NodeProcess]) -> int:
    """How many calls of all kinds the nodes have answered."""
    count = 0
    for node in nodes:
        with urllib.request.urlopen(f"http://{node.http}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line.rpartition(" ")[2] for line in lines if line.startswith("ringhold_requests_total{")]
        count += sum(int(float(each)) for each in counts)
    return count


async def outcome(call: Awaitable[object]) -> Outcome:
    """What a program can tell of a call, but for what depends on the key's partition and on when it was."""
    try:
        result = await call
    except RingholdError as error:
        details = {name: value for name, value in error.details.items() if name not in PASSING}
        return type(error), error.code, error.reason, error.message, details
    if isinstance(result, Record):
        return result.value, result.indexes, result.stale
    assert isinstance(result, int)
    return ("changed" if result else "nothing was there",)


async def log_time_ms(client: AsyncClient, key: bytes) -> int:
    """That of the partition of a key, under which there is nothing."""
    with pytest.raises(KeyNotFound) as caught:
        await client.get(key)
    return int(caught.value.details["log_time_ms"])


async def caller(client: AsyncClient, number: int, family: bytes) -> list[Outcome]:
    """A program that nobody disturbs, the same for the same number."""
    rng = random.Random(number)
    mine, other, one_id = (b"%s %s %d" % (family, kind, number) for kind in (b"mine", b"other", b"id"))
    anchor = await log_time_ms(client, other)
    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: client.get(mine),
        lambda: client.set(mine, rng.randbytes(rng.choice([0, 10, 1_000])), {"number": [b"%d" % number, b"x"]}),
        lambda: client.set(other, b"again", request_id=one_id, anchor=anchor),
        lambda: client.set(other, b"another", request_id=one_id, anchor=anchor),
        lambda: client.delete(mine),
        lambda: client.get(other),
        lambda: client.set("", b"no key"),
        lambda: client.get(b"k" * (4 * KIB + 1)),
        lambda: client.delete(mine, request_id=b"i" * 65),
        lambda: client.set(mine, b"", {"": b"no name"}),
        lambda: client.get(b"nobody's", consistency="stale"),
    ]
    outcomes = []
    for _ in range(TURNS):
        together = rng.sample(steps[:2], 1) + rng.sample(steps[2:4], 1) + rng.sample(steps[6:], 2)
        outcomes += await asyncio.gather(*(outcome(step()) for step in together))
        outcomes.append(await outcome(rng.choice(steps)()))
    return outcomes


@pytest.mark.long
async def test_shared_calls_answer_as_calls_of_their_own(
    coalescing: AsyncClient, apart: AsyncClient, shared_three: Sequence[NodeProcess]
) -> None:
    """Records, absent keys, refusals of every kind, repeated and reused request_ids: the same for every caller."""
    before = calls_of(shared_three)
    expected: list[list[Outcome]] = []
    for first in range(0, CALLERS, CALLERS_APART):
        few = range(first, first + CALLERS_APART)
        expected += await asyncio.gather(*(caller(apart, number, b"apart") for number in few))
    reasons = {each[2] for outcomes in expected for each in outcomes if isinstance(each[0], type)}
    assert reasons == {
        "KEY_NOT_FOUND",
        "KEY_EMPTY",
        "KEY_TOO_LARGE",
        "REQUEST_ID_TOO_LARGE",
        "INDEX_NAME_INVALID",
        "REQUEST_ID_REUSED",
    }
    mark = calls_of(shared_three)
    found = await asyncio.gather(*(caller(coalescing, number, b"shared") for number in range(CALLERS)))
    assert found == expected
    assert calls_of(shared_three) - mark < (mark - before) / 2, "they have shared calls"


async def test_a_call_sees_what_had_returned_before_it(coalescing: AsyncClient, apart: AsyncClient) -> None:
    """After a set every get has its value or a newer one, after a delete none has it, through either client."""

    async def writer(name: int) -> None:
        key = b"own:%d" % name
        for turn in range(TURNS):
            value = b"%d" % turn
            version = await coalescing.set(key, value)
            records = await asyncio.gather(coalescing.get(key), apart.get(key), coalescing.get(key))
            assert [(record.value, record.version) for record in records] == [(value, version)] * 3
        assert await coalescing.delete(key) > version
        for client in (coalescing, apart):
            with pytest.raises(KeyNotFound):
                await client.get(key)

    async def watcher() -> None:
        seen = 0
        for turn in range(TURNS):
            written = await coalescing.set(b"hot", b"%d" % turn)
            found = (await coalescing.get(b"hot")).version
            assert found >= max(written, seen), "versions of one key never go back"
            seen = found

    await asyncio.gather(*(writer(name) for name in range(100)), *(watcher() for _ in range(30)))


async def test_a_request_id_is_one_mutation_however_many_callers_bring_it(coalescing: AsyncClient) -> None:
    """At the same time, in shared calls and alone: all get the one version."""
    partition = (await coalescing.explain("one")).partition
    anchor = (await coalescing.topology()).partitions[partition].log_time_ms or 1
    noise = [coalescing.set(b"noise:%d" % number, b"") for number in range(100)]
    same = [coalescing.set("one", b"v", request_id=b"the same", anchor=anchor) for _ in range(100)]
    mixed = [call for pair in zip(noise, same, strict=True) for call in pair]
    versions = (await asyncio.gather(*mixed))[1::2]
    record = await coalescing.get("one")
    assert set(versions) == {record.version}
    assert record.create_version == record.version


async def test_values_at_the_limit_fail_no_neighbour(coalescing: AsyncClient) -> None:
    """Requests up to the largest, one beyond it, and far more records than an answer has room for."""
    sizes = [10, 60 * KIB, 70 * KIB, 1024 * KIB]
    values = {b"large:%d" % number: bytes([number]) * sizes[number % len(sizes)] for number in range(40)}
    sets = [outcome(coalescing.set(key, value)) for key, value in values.items()]
    *written, refused = await asyncio.gather(*sets, outcome(coalescing.set("large", b"v" * (1024 * KIB + 1))))
    assert written == [("changed",)] * len(values)
    assert refused[:3:2] == (InvalidRequest, "VALUE_TOO_LARGE")
    records = await asyncio.gather(*(coalescing.get(key) for key in values))
    assert {record.key: record.value for record in records} == values


async def test_an_anchor_out_of_the_window_fails_no_neighbour(coalescing: AsyncClient) -> None:
    """It is refused as in a call of its own."""
    noise = asyncio.gather(*(coalescing.set(b"beside:%d" % number, b"") for number in range(20)))
    refused = await outcome(coalescing.set("of a day to come", b"", anchor=1 << 40))
    assert refused[:3:2] == (InvalidRequest, "REQUEST_EXPIRED")
    await noise
