"""The Python clients that are compared, each as its own documentation shows it: how to get and set a key."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeAlias

from ringhold import AsyncClient, Client
from ringhold.api.client.config import ClientConfig

from .bodies import VALUE

AsyncCall: TypeAlias = Callable[[bytes], Awaitable[None]]
Call: TypeAlias = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class AsyncCalls:
    """Both raise unless the key is set, or has the value that was set."""

    get: AsyncCall
    set: AsyncCall


@dataclass(frozen=True, slots=True)
class Calls:
    """The same, blocking."""

    get: Call
    set: Call


AsyncCaller: TypeAlias = Callable[[Sequence[str], int], AbstractAsyncContextManager[AsyncCalls]]
Caller: TypeAlias = Callable[[Sequence[str], int], AbstractContextManager[Calls]]
"""From the servers' addresses and the number of concurrent callers."""


def refuse_other(value: bytes | None) -> None:
    """Raises ValueError unless it is the value that was set."""
    if value != VALUE:
        raise ValueError(f"a Get answered {value!r}")


@asynccontextmanager
async def ringhold(addresses: Sequence[str], _: int) -> AsyncIterator[AsyncCalls]:
    async with AsyncClient(addresses) as client:
        yield calls_of(client)


@asynccontextmanager
async def ringhold_uncoalesced(addresses: Sequence[str], _: int) -> AsyncIterator[AsyncCalls]:
    async with AsyncClient(addresses, config=ClientConfig(coalesce=False)) as client:
        yield calls_of(client)


def calls_of(client: AsyncClient) -> AsyncCalls:
    async def get(key: bytes) -> None:
        refuse_other((await client.get(key)).value)

    async def set_key(key: bytes) -> None:
        await client.set(key, VALUE)

    return AsyncCalls(get, set_key)


@contextmanager
def ringhold_blocking(addresses: Sequence[str], _: int) -> Iterator[Calls]:
    with Client(addresses) as client:

        def get(key: bytes) -> None:
            refuse_other(client.get(key).value)

        def set_key(key: bytes) -> None:
            client.set(key, VALUE)

        yield Calls(get, set_key)


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@asynccontextmanager
async def aetcd(addresses: Sequence[str], _: int) -> AsyncIterator[AsyncCalls]:
    """It talks to one member: the first of the addresses."""
    import aetcd as library

    host, port = host_and_port(addresses[0])
    async with library.Client(host, port) as client:

        async def get(key: bytes) -> None:
            found = await client.get(key)
            refuse_other(found and found.value)

        async def set_key(key: bytes) -> None:
            await client.put(key, VALUE)

        yield AsyncCalls(get, set_key)


@asynccontextmanager
async def redis_py(addresses: Sequence[str], callers: int) -> AsyncIterator[AsyncCalls]:
    """Without pipelines; each caller may have a connection to each node."""
    from redis.asyncio import RedisCluster

    host, port = host_and_port(addresses[0])
    async with RedisCluster(host=host, port=port, max_connections=callers + 1) as client:

        async def get(key: bytes) -> None:
            refuse_other(await client.get(key))

        async def set_key(key: bytes) -> None:
            if not await client.set(key, VALUE):
                raise ValueError("a Set was not acknowledged")

        yield AsyncCalls(get, set_key)


ASYNC_CALLERS: Mapping[str, AsyncCaller] = {
    "AsyncClient": ringhold,
    "AsyncClient, uncoalesced": ringhold_uncoalesced,
    "aetcd": aetcd,
    "redis-py": redis_py,
}
CALLERS: Mapping[str, Caller] = {"Client": ringhold_blocking}
OF_OTHERS = {"aetcd": "aetcd", "redis-py": "redis"}
"""The packages that only this table needs, by the names of the callers."""


def is_importable(caller: str) -> bool:
    return caller not in OF_OTHERS or find_spec(OF_OTHERS[caller]) is not None
