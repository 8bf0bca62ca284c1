"""A node as a process: opens its folder, binds its ports, runs until it is told to stop, or has left its cluster.

Only here the injected parts of a node become real ones: the machine's clock, grpc, aiohttp, the engine on disk.
"""

import asyncio
import gc
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc
from aiohttp import web
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from ..api.limits import Limits
from ..api.proto.ringhold.internal.v1.peer_pb2_grpc import add_PeerServicer_to_server
from ..gossip.config import lan, local
from ..gossip.http import SERVER_KEEPALIVE_S, ClusterGuard, HttpExchange
from .clock import BootClock, Clock
from .config import NodeConfig, is_loopback, parse_address
from .ending import Ending, pod
from .faces.calls import Calls
from .faces.http import application
from .faces.kv import SERVICES, handlers
from .faces.metrics import NodeCollector, registry
from .identity_conflict import GenerationForgotten
from .introduction import NodeSettings
from .known_members import KnownMembers
from .kubernetes import KubernetesPolicy, ServiceAccount, StatefulSetApi
from .leaving import End, FixedPolicy, StopPolicy, StopSignals
from .logs import get_logger
from .moving.amendments import in_a_thread
from .node import Node, NodeParts
from .peers.boots import Boots
from .peers.network_transport import NetworkTransport
from .peers.transport import Transport
from .scrub.reports import ScrubReports
from .storage.cache import CachedEngine
from .storage.engine import Engine, EngineFailed
from .storage.envelope import Damaged
from .storage.folder import DataFolder, FolderError, Identity
from .storage.health import Opening, note_damage
from .storage.numbered import NumberedEngine, Progress
from .storage.opening import EngineUnavailable, open_engine
from .storage.space import FolderDevice
from .storage.succession import succeed
from .supervisor import Supervisor
from .topology_store import TOPOLOGY_KEY, stored_topology

HARD_MESSAGE_BYTES_MAX_FACTOR = 4
"""Messages up to this multiple of the limit are read, to be refused with a clear error; larger ones by the library."""


CONNECTION_AGE_MS_MAX = 30 * 60 * 1000
"""After this a client is asked to connect anew, and so hears of nodes that came; calls and streams under way go on."""

GC_YOUNG_OBJECTS = 20_000
"""New objects between two collections of the youngest; Python's 700 cost a tenth of a batch's time."""


class StartupError(Exception):
    """The node can't start; the message is the sentence to show."""


@dataclass(slots=True)
class Outcome:
    """Why a life of the node ends: as it was told, by a failure, or because it must go on beyond a generation."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str | None = None
    beyond: int | None = None


async def run_node(config: NodeConfig) -> int:
    """Run a node until it is told to stop, or has left its cluster: 0; until it fails: 1. Raises StartupError."""
    assert api_implementation.Type() == "upb", "protobuf's upb backend is required"
    log = get_logger("node")
    signals = StopSignals()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signals.terminate)
    loop.add_signal_handler(signal.SIGINT, signals.interrupt)
    try:
        outcome = await one_life(config, signals, beyond=0)
        while outcome.beyond is not None:
            outcome = await one_life(config, signals, outcome.beyond)
    except (FolderError, EngineUnavailable, EngineFailed) as error:
        raise StartupError(str(error)) from error
    except Damaged as error:
        raise StartupError(f"a record of the node itself in {config.data_dir} is damaged: {error}") from error
    log.info("stopped")
    return 1 if outcome.failure else 0


async def one_life(config: NodeConfig, signals: StopSignals, beyond: int) -> Outcome:
    """A node from its start to its end, in a generation beyond one that others know of. Raises as `running`."""
    log = get_logger("node")
    outcome = Outcome()

    def fail(name: str, error: BaseException) -> None:
        if isinstance(error, GenerationForgotten):
            log.warning("starts again", reason=str(error))
            outcome.beyond = error.generation
        else:
            log.error("failed", part=name, error=f"{type(error).__name__}: {error}", exc_info=error)
            outcome.failure = name
        outcome.stop.set()

    async with running(config, fail, beyond) as (node, folder):
        tune_garbage_collector()
        end_of(node, folder, config, signals, outcome.stop.set).begin()
        await outcome.stop.wait()
    return outcome


def end_of(node: Node, folder: DataFolder, config: NodeConfig, signals: StopSignals, stop: Callable[[], None]) -> End:
    """What ends the life of this node."""
    logger, clock = get_logger("node").bind(node=node.settings.name), BootClock()

    def tell(event: str, /, **figures: object) -> None:
        logger.info(event, **figures)

    def warn(event: str, /, **figures: object) -> None:
        logger.warning(event, **figures)

    return End(
        signals=signals,
        policy=policy_of(config, clock),
        departure=node.moving.departure,
        is_member=lambda: node.store.current is not None,
        mark_left=folder.mark_left,
        stop=stop,
        clock=clock,
        supervisor=node.supervisor,
        log=tell,
        warn=warn,
    )


def policy_of(config: NodeConfig, clock: Clock) -> StopPolicy:
    """Who says what a stop of this node means."""
    if config.on_sigterm != "kubernetes":
        return FixedPolicy(Ending.LEAVE if config.on_sigterm == "leave" else Ending.RESTART)
    name = pod(config.name or "")
    assert name is not None, "the configuration was checked"
    assert config.kubernetes_api is not None, "the configuration was checked"
    stateful_set, ordinal = name
    account = ServiceAccount(config.kubernetes_account)
    api = StatefulSetApi(config.kubernetes_api, account, config.stateful_set or stateful_set, clock)
    return KubernetesPolicy(ordinal, api)


def tune_garbage_collector() -> None:
    """Collect rarely, and never look again at what the start has made: requests leave few cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 50)


@asynccontextmanager
async def running(
    config: NodeConfig, fail: Callable[[str, BaseException], None], beyond: int = 0
) -> AsyncIterator[tuple[Node, DataFolder]]:
    """A node that serves on real ports, in a generation above `beyond`, and its folder; the block's end drains it."""
    clock = BootClock()
    rng = random.Random(secrets.randbits(128))
    async with AsyncExitStack() as stack:
        folder = DataFolder(config.data_dir)
        stack.callback(folder.close)
        server = grpc_server(config.limits)
        bind_grpc(server, config.grpc)
        listener = bind_http(config.http)
        stack.callback(listener.close)
        identity = begin(folder, config, beyond)
        numbered = opened(folder, identity, config, beyond)
        engine = cached(numbered, config)
        stack.callback(engine.close)
        stack.callback(note_damage, folder, engine)
        adopt_stored(folder, engine)
        guard = ClusterGuard(config.cluster, lambda: node.store.cluster_id or identity.cluster_id)
        exchange = HttpExchange(guard)
        stack.push_async_callback(exchange.close)

        def failed(name: str, error: BaseException) -> None:
            note_damage(folder, engine)
            fail(name, error)

        node = assemble(config, folder, identity, engine, numbered, exchange, clock, rng, failed)
        await serve_http(node, engine, guard, listener, config, server, clock, stack)
        try:
            await node.start()
            yield node, folder
        finally:
            await stop(node, server, config.drain_timeout_s)


def begin(folder: DataFolder, config: NodeConfig, beyond: int) -> Identity:
    """The folder's identity, one generation on and above `beyond`, durable before anybody hears of it.

    Where the node that was here has left its cluster, it is that of a new node.
    """
    stored = folder.identity()
    name = config.name or (stored.name if stored else f"node-{secrets.token_hex(3)}")
    if succeed(folder, warn_of_storage, name=name, cluster=config.cluster, engine=config.engine) is not None:
        return folder.begin_generation()
    folder.open_identity(name=name, cluster=config.cluster, engine=config.engine)
    return folder.begin_generation(beyond)


def opened(folder: DataFolder, identity: Identity, config: NodeConfig, beyond: int) -> NumberedEngine:
    """The sound engine of the folder, or a new one in place of one that was lost.

    Raises FolderError if it was lost and there is nobody to be rebuilt from.
    """
    opening = Opening(
        folder=folder,
        identity=identity,
        seeds=[seed for seed in config.seeds if seed != config.http_address],
        open_files=partial(open_engine, config.engine),
        random_bits=secrets.randbits,
        log=warn_of_storage,
        begins_again=beyond > 0,
    )
    return opening.run()


def warn_of_storage(event: str, /, **figures: object) -> None:
    get_logger("storage").warning(event, **figures)


def cached(engine: Engine, config: NodeConfig) -> Engine:
    return CachedEngine(engine, config.row_cache_bytes) if config.row_cache_bytes else engine


def adopt_stored(folder: DataFolder, engine: Engine) -> None:
    """An adoption that only the engine knows of was cut short by a crash: complete it.

    Raises FolderError if the folder's identity has adopted another cluster.
    """
    topology = stored_topology(engine, TOPOLOGY_KEY)
    if topology is not None:
        folder.adopt(topology.cluster_id)


def assemble(
    config: NodeConfig,
    folder: DataFolder,
    identity: Identity,
    engine: Engine,
    progress: Progress,
    exchange: HttpExchange,
    clock: Clock,
    rng: random.Random,
    fail: Callable[[str, BaseException], None],
) -> Node:
    """The node over its real parts."""
    settings = settings_of(config, identity)
    known = KnownMembers(engine, lambda name, work: node.supervisor.spawn(name, work))  # noqa: PLW0108 - made below
    logger = get_logger("node").bind(node=settings.name)

    async def remember(cluster_id: str) -> None:
        await asyncio.to_thread(folder.adopt, cluster_id)

    def log(event: str, /, **figures: object) -> None:
        logger.info(event, **figures)

    def transport(cluster_id: Callable[[], str], boots: Boots, supervisor: Supervisor) -> Transport:
        return NetworkTransport(settings.node_id, cluster_id, boots, supervisor, rng)

    parts = NodeParts(
        engine=engine,
        progress=progress,
        device=FolderDevice(config.data_dir),
        remember_cluster=remember,
        transport=transport,
        gossip_exchange=exchange,
        known_members=known.load(),
        persist_member=known.keep,
        forget_member=known.forget,
        clock=clock,
        rng=rng,
        log=log,
        on_failure=fail,
        aside=in_a_thread,
    )
    node = Node(settings, parts)
    return node


def settings_of(config: NodeConfig, identity: Identity) -> NodeSettings:
    host, _ = parse_address(config.http_address, "http")
    loopback = is_loopback(host)
    expect = config.expect or (1 if not config.seeds and loopback else 0)
    return NodeSettings(
        node_id=identity.node_id,
        generation=identity.generation,
        name=identity.name,
        cluster=config.cluster,
        grpc_address=config.grpc_address,
        http_address=config.http_address,
        host=config.host or socket.gethostname(),
        zone=config.zone,
        weight=config.weight,
        seeds=config.seeds,
        expect=0 if identity.former else expect,
        partitions=config.partitions,
        replication_factor=config.replication_factor,
        reads=config.reads,
        engine=config.engine,
        disk_reserve_bytes=config.disk_reserve_bytes,
        snapshot_bytes_per_s_max=config.snapshot_bytes_per_s_max,
        limits=config.limits,
        gossip=local() if loopback else lan(),
        scrub_bytes_per_s=config.scrub_bytes_per_s,
    )


def grpc_server(limits: Limits) -> grpc.aio.Server:
    """The gRPC server, with the bounds that the library enforces."""
    return grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", limits.message_bytes_max * HARD_MESSAGE_BYTES_MAX_FACTOR),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", limits.metadata_bytes_max),
            ("grpc.max_concurrent_streams", limits.streams_per_connection_max),
            ("grpc.max_connection_age_ms", CONNECTION_AGE_MS_MAX),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 2_000),
            ("grpc.http2.max_pings_without_data", 0),
        )
    )


def bind_grpc(server: grpc.aio.Server, address: str) -> None:
    """Raises StartupError if the address can't be bound."""
    host, port = parse_address(address, "grpc")
    probe_port(host, port, "gRPC")
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartupError(f"gRPC can't listen on {address}: {error}") from error


def probe_port(host: str, port: int, what: str) -> None:
    """The library says only that binding failed; this says why. Raises StartupError."""
    bind(host, port, what).close()


def bind(host: str, port: int, what: str) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StartupError(f"{what} can't listen on {host}:{port}: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        reason = "the port is in use" if error.errno == 98 else error.strerror
        raise StartupError(f"{what} can't listen on {host}:{port}: {reason}") from error
    return listener


def bind_http(address: str) -> socket.socket:
    host, port = parse_address(address, "http")
    return bind(host, port, "HTTP")


async def serve_http(
    node: Node,
    engine: Engine,
    guard: ClusterGuard,
    listener: socket.socket,
    config: NodeConfig,
    server: grpc.aio.Server,
    clock: Clock,
    stack: AsyncExitStack,
) -> None:
    """Start both servers; until the node is ready, calls are refused with the reason."""
    scrubs = ScrubReports(node.settings.name, node.scrubber, lambda: node.describe().unhealthy)
    calls = Calls(node.check_ready, config.limits, clock, node.supervisor)
    server.add_generic_rpc_handlers(handlers(calls, node.gateway, node.overview, node.moving.orders, scrubs))
    transport = node.transport
    assert isinstance(transport, NetworkTransport)
    add_PeerServicer_to_server(transport, server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name), server)
    node.on_ready_change(lambda ready: node.supervisor.spawn("health", tell_health(health, ready)))
    await tell_health(health, ready=False)
    await server.start()
    runner = web.AppRunner(
        application(node, transport.accept_raft, guard, registry(NodeCollector(node, engine, calls.counters, clock))),
        keepalive_timeout=SERVER_KEEPALIVE_S,
        access_log=None,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()


async def tell_health(health: HealthServicer, ready: bool) -> None:
    status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", *SERVICES):
        await health.set(service, status)


async def stop(node: Node, server: grpc.aio.Server, drain_timeout_s: float) -> None:
    """Readiness off, running calls to their end, then everything closed: within the drain timeout and a little."""
    node.begin_drain()
    try:
        async with asyncio.timeout(drain_timeout_s):
            await asyncio.gather(server.stop(drain_timeout_s / 2), node.stop())
    except TimeoutError:
        get_logger("node").warning("drain cut short", seconds=drain_timeout_s)
