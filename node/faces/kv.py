"""The gRPC services for clients: KV, Cluster, and the contract of the Go predecessor, all on one port."""

from collections.abc import Sequence

import grpc

from ...api.proto.api import distributed_storage_engine_pb2 as legacy_pb2
from ...api.proto.ringhold.v1 import cluster_pb2, kv_pb2
from ..gateway import Gateway
from ..moving.orders import Orders
from ..overview import Overview
from ..scrub.reports import ScrubReports
from .calls import Calls

KV = "ringhold.v1.KV"
CLUSTER = "ringhold.v1.Cluster"
LEGACY = "api.DistributedStorageEngine"
SERVICES = (KV, CLUSTER, LEGACY)


def handlers(
    calls: Calls, gateway: Gateway, overview: Overview, orders: Orders, scrubs: ScrubReports
) -> Sequence[grpc.GenericRpcHandler]:
    """Every client-facing service of a node."""
    cluster = ClusterFace(overview)
    legacy = LegacyFace(gateway)
    return (
        calls.handler(
            KV,
            {
                "Get": (kv_pb2.GetRequest, gateway.get),
                "Set": (kv_pb2.SetRequest, gateway.set),
                "Delete": (kv_pb2.DeleteRequest, gateway.delete),
                "GetByIndex": (kv_pb2.GetByIndexRequest, gateway.get_by_index),
                "Batch": (kv_pb2.BatchRequest, gateway.batch),
                "Resolve": (kv_pb2.ResolveRequest, gateway.resolve),
            },
        ),
        calls.handler(
            CLUSTER,
            {
                "Topology": (cluster_pb2.TopologyRequest, cluster.topology),
                "Status": (cluster_pb2.StatusRequest, cluster.status),
                "Explain": (cluster_pb2.ExplainRequest, cluster.explain),
                "Change": (cluster_pb2.ChangeRequest, orders.change),
            },
        ),
        calls.streaming_handler(CLUSTER, {"Scrub": (cluster_pb2.ScrubRequest, scrubs.scrub)}),
        calls.handler(
            LEGACY,
            {
                "Get": (legacy_pb2.GetRequest, legacy.get),
                "Set": (legacy_pb2.SetRequest, legacy.set),
                "Delete": (legacy_pb2.DeleteRequest, legacy.delete),
            },
        ),
    )


class ClusterFace:
    """ringhold.v1.Cluster."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    async def topology(self, _: cluster_pb2.TopologyRequest, deadline: float) -> cluster_pb2.TopologyResponse:
        return await self._overview.topology(deadline)

    async def status(self, _: cluster_pb2.StatusRequest, deadline: float) -> cluster_pb2.StatusResponse:
        return await self._overview.status(deadline)

    async def explain(self, request: cluster_pb2.ExplainRequest, deadline: float) -> cluster_pb2.ExplainResponse:
        return await self._overview.explain(request.key, deadline)


class LegacyFace:
    """api.DistributedStorageEngine. Its Set knows no index entries, so it removes those that the key had."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def get(self, request: legacy_pb2.GetRequest, deadline: float) -> legacy_pb2.GetResponse:
        answer = await self._gateway.get(kv_pb2.GetRequest(key=request.key), deadline)
        return legacy_pb2.GetResponse(value=answer.value)

    async def set(self, request: legacy_pb2.SetRequest, deadline: float) -> legacy_pb2.SetResponse:
        await self._gateway.set(kv_pb2.SetRequest(key=request.key, value=request.value), deadline)
        return legacy_pb2.SetResponse()

    async def delete(self, request: legacy_pb2.DeleteRequest, deadline: float) -> legacy_pb2.DeleteResponse:
        await self._gateway.delete(kv_pb2.DeleteRequest(key=request.key), deadline)
        return legacy_pb2.DeleteResponse()
