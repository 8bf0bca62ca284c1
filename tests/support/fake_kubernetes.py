"""A small Kubernetes API server over real HTTP, in a thread of its own: it knows StatefulSets, and who may see them.

Real nodes are pointed at it with `arguments`, and a test scales what they ask for.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web
from support.certificates import Certificates

NAMESPACE = "store"
TOKEN = "a.token.of-a-service_account"
START_TIMEOUT_S = 10.0

Misbehaviour: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status(number: int) -> Misbehaviour:
    """An answer with that status, as the API server writes them."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "code": number}, status=number)

    return answer


def body(content: bytes) -> Misbehaviour:
    """An answer with another content than the API server would give."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=content, content_type="application/json")

    return answer


async def no_answer(request: web.Request) -> web.StreamResponse:
    """The request is taken, and that is all: the caller gives up."""
    await asyncio.Event().wait()
    raise AssertionError(request)


async def broken_off(request: web.Request) -> web.StreamResponse:
    """The connection ends in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"kind": "Stat')
    assert request.transport is not None
    request.transport.abort()
    return response


async def redirected(_: web.Request) -> web.StreamResponse:
    """Somebody else is to be given the token."""
    raise web.HTTPFound("http://127.0.0.1:1/stolen")


@dataclass
class FakeKubernetes:
    """The server's state; a test changes it while it runs. `account` is the folder that a pod would see."""

    account: Path
    url: str = ""
    token: str = TOKEN
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    permitted: set[str] = field(default_factory=set)
    misbehaviours: list[Misbehaviour] = field(default_factory=list)
    """What the next requests get instead of an answer, in their order."""
    always: Misbehaviour | None = None
    """What all of them get."""
    paths: list[str] = field(default_factory=list)
    """What was asked for."""

    def scale(self, replicas: int, name: str = "ringhold", *, start: int | None = None) -> None:
        """What `kubectl scale` does; a new set may be seen by the account."""
        known = self.sets.setdefault(name, {"metadata": {"namespace": NAMESPACE, "name": name}, "spec": {}})
        known["spec"]["replicas"] = replicas
        if start is not None:
            known["spec"]["ordinals"] = {"start": start}
        self.permitted.add(name)

    def delete(self, name: str = "ringhold") -> None:
        """What `kubectl delete --cascade=foreground` does first."""
        self.sets[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    def rotate_token(self, token: str) -> None:
        """The kubelet puts another token into the pod, and the old one ends."""
        (self.account / "token").write_text(token)
        self.token = token

    @property
    def arguments(self) -> list[str]:
        """What a node is told on its command line to ask here; the rest is in `variables`."""
        return ["--on-sigterm", "kubernetes"]

    @property
    def variables(self) -> dict[str, str]:
        """What a node is told by its environment to ask here."""
        return {"RINGHOLD_KUBERNETES_API": self.url, "RINGHOLD_KUBERNETES_ACCOUNT": str(self.account)}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if self.misbehaviours:
            return await self.misbehaviours.pop(0)(request)
        if self.always is not None:
            return await self.always(request)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return await status(401)(request)
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if request.method != "GET" or namespace != NAMESPACE or name not in self.permitted:
            return await status(403)(request)
        if name not in self.sets:
            return await status(404)(request)
        return web.Response(
            body=json.dumps({"kind": "StatefulSet", "apiVersion": "apps/v1", **self.sets[name]}).encode(),
            content_type="application/json",
        )


@contextmanager
def fake_kubernetes(account: Path, certificates: Certificates | None = None) -> Iterator[FakeKubernetes]:
    """The server runs for the block, on a port of its own; with certificates over TLS."""
    account.mkdir(parents=True)
    (account / "namespace").write_text(NAMESPACE)
    (account / "token").write_text(TOKEN + "\n")
    if certificates:
        (account / "ca.crt").write_bytes(certificates.authority.read_bytes())
    fake = FakeKubernetes(account)
    loop, started, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(fake, certificates, started, ended)))
    thread.start()
    try:
        assert started.wait(START_TIMEOUT_S), "the fake API server has not started"
        yield fake
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


async def serve(
    fake: FakeKubernetes, certificates: Certificates | None, started: threading.Event, ended: asyncio.Event
) -> None:
    app = web.Application()
    app.router.add_route("*", "/apis/apps/v1/namespaces/{namespace}/statefulsets/{name}", fake.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls(certificates) if certificates else None)
    await site.start()
    port = runner.addresses[0][1]
    fake.url = f"{'https' if certificates else 'http'}://127.0.0.1:{port}"
    started.set()
    await ended.wait()
    await runner.cleanup()


def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    return context
