"""The HTTP port: gossip, formation and consensus for nodes, health for orchestrators, metrics for Prometheus."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ...gossip.http import ClusterGuard, routes
from ...gossip.wire import ROUTES
from ..founding import FORMATION_ROUTE, TOPOLOGY_ROUTE
from ..node import Node
from ..peers.raft_sockets import RaftSocket, accepting

Endpoint: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(
    node: Node, accept_raft: Callable[[RaftSocket], Awaitable[None]], guard: ClusterGuard, registry: CollectorRegistry
) -> web.Application:
    """The node's one web application."""
    app = web.Application()
    app.add_routes(routes(node.handle_exchange, (*ROUTES, FORMATION_ROUTE, TOPOLOGY_ROUTE), guard))
    app.router.add_routes([accepting(accept_raft)])
    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", readiness(node))
    app.router.add_get("/metrics", metrics(registry))
    return app


async def live(_: web.Request) -> web.Response:
    """The process runs and its event loop turns."""
    return web.Response(text="live\n")


def readiness(node: Node) -> Endpoint:
    async def ready(_: web.Request) -> web.Response:
        if node.ready:
            return web.Response(text="ready\n")
        reason = "draining" if node.draining else node.founding.waiting_for or "starting"
        return web.Response(status=503, text=f"not ready: {reason}\n")

    return ready


def metrics(registry: CollectorRegistry) -> Endpoint:
    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return scrape
