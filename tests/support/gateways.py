"""One gateway, asked by plain gRPC: a client would learn of the other nodes and ask them instead."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
from simulation.history import Found, History, Page, Query, Read

from ringhold import KeyNotFound, RingholdError
from ringhold.api.proto.ringhold.v1 import kv_pb2, kv_pb2_grpc
from ringhold.api.status import from_rpc_error

TIMEOUT_S = 10.0
PAGE_LIMIT = 20


class Gateway:
    """What a node answers as a gateway. Its methods raise RingholdError."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._kv = kv_pb2_grpc.KVStub(channel)

    def read(self, key: bytes) -> Read:
        return self._read(kv_pb2.GetRequest(key=key))

    def read_stale(self, key: bytes) -> Read:
        """From the gateway's own replica, if it has one."""
        return self._read(kv_pb2.GetRequest(key=key, consistency=kv_pb2.CONSISTENCY_STALE))

    def _read(self, request: kv_pb2.GetRequest) -> Read:
        key, invoked = request.key, time.monotonic()
        try:
            answer = self._kv.Get(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            absent = from_rpc_error(error)
            if not isinstance(absent, KeyNotFound):
                raise absent from error
            return Read(key, None, 0, frozenset(), invoked, time.monotonic())
        entries = frozenset((entry.name, entry.value) for entry in answer.indexes)
        return Read(key, answer.value, answer.version, entries, invoked, time.monotonic())

    def walk(self, index: str, limit: int) -> Page:
        """The whole index as one page of at most `limit` matches."""
        invoked = time.monotonic()
        found = tuple(
            Found((match.index_value, match.key), match.record.value, match.record.version)
            for match in self._matches(index)
        )
        query = Query(index, None, None, False, limit, with_records=True)
        return Page(query, None, found, False, (), invoked, time.monotonic(), invoked)

    def _matches(self, index: str) -> Iterator[kv_pb2.Match]:
        request = kv_pb2.GetByIndexRequest(index=index, range=kv_pb2.Range(), limit=PAGE_LIMIT, with_records=True)
        while True:
            try:
                page = self._kv.GetByIndex(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            yield from page.matches
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


@contextmanager
def gateway(address: str) -> Iterator[Gateway]:
    with grpc.insecure_channel(address, (("grpc.enable_http_proxy", 0),)) as channel:
        yield Gateway(channel)


def audit(addresses: Sequence[str], history: History, keys: Sequence[bytes], index: str, limit: int) -> None:
    """Read every key and walk the index through each gateway; what they say joins the history."""
    for address in addresses:
        with gateway(address) as asked:
            try:
                history.reads += [asked.read(key) for key in keys]
                history.pages.append(asked.walk(index, limit))
            except RingholdError as error:
                raise AssertionError(f"the gateway {address} answers {error.reason}: {error}") from error
