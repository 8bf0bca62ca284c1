"""Stale reads in the client's core: whom they ask, what they may not be used for, how old a whole query is."""

import random

from ringhold.api.client.calls import Answered, Failed, Finish, Send
from ringhold.api.client.config import ClientConfig
from ringhold.api.client.core import Core
from ringhold.api.errors import error_for
from ringhold.api.proto.ringhold.v1 import cluster_pb2, kv_pb2


def told_core() -> Core:
    """A core that knows its topology: one partition, whose replicas are b and a, led by a; nobody knows a log time."""
    core = Core(("a:1", "b:1"), 10.0, ClientConfig(), random.Random(7))
    normal = cluster_pb2.NODE_STATE_NORMAL
    topology = cluster_pb2.TopologyResponse(
        cluster_id="c",
        epoch=1,
        nodes=[cluster_pb2.Node(id=name, name=name, grpc_address=f"{name}:1", state=normal) for name in ("a", "b")],
        partitions=[cluster_pb2.Partition(replicas=[1, 0], leader=0)],
    )
    call = core.topology(None)
    call.start(0.0)
    assert isinstance(call.handle(Answered(topology), 0.0), Finish)
    return core


def test_a_stale_read_goes_to_any_replica_that_is_well() -> None:
    """The first one of its key's partition, and the next one at once when that does not serve."""
    call = told_core().get("k", None, "stale")
    effect = call.start(0.5)
    assert isinstance(effect, Send)
    assert effect.address == "b:1"
    assert effect.request == kv_pb2.GetRequest(key=b"k", consistency=kv_pb2.CONSISTENCY_STALE)
    effect = call.handle(Failed(error_for("NO_ENDPOINT", "gone")), 0.5)
    assert isinstance(effect, Send), "no pause"
    assert effect.address == "a:1"


def test_a_stale_answer_gives_no_anchor() -> None:
    """A replica that is long behind would make the first attempt of a mutation expire."""
    core = told_core()
    call = core.get("k", None, "stale")
    call.start(0.5)
    header = kv_pb2.Header(topology_epoch=1, stale=True, behind_ms=9)
    assert isinstance(call.handle(Answered(kv_pb2.GetResponse(header=header)), 0.5), Finish)
    effect = core.set("k", "v", {}, None, None, None).start(0.5)
    assert isinstance(effect, Send)
    assert effect.request == kv_pb2.GetRequest(key=b"k"), "it asks for an anchor, linearizably"


def test_pages_are_as_old_as_the_oldest_of_them() -> None:
    """Unknown once one page did not know, however young the others were."""
    core = told_core()
    pages = core.find("i", "x", None, None, None, None, False, True, False, 10, "stale")
    ages = []
    for behind_ms in (3, 12, 5, None, 7):
        call = core.page(pages, None)
        assert call is not None
        effect = call.start(0.5)
        assert isinstance(effect, Send)
        page = kv_pb2.GetByIndexResponse(next_page_token=b"t", stale=True, behind_ms=behind_ms)
        assert isinstance(call.handle(Answered(page), 0.5), Finish)
        ages.append(pages.behind_ms)
    assert ages == [3, 12, 12, None, None]
    assert pages.stale
