"""Index queries over the cluster: whom a page asks, whom it asks again, and what it says of the missing (P4, P5)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from math import comb

import pytest
from support.small_cluster import NOT_SENT, REPLY_LOST, REQUEST_LOST, SmallCluster, small_cluster
from support.virtual_time import reached, virtual

from ringhold.api.errors import DataLoss, Incomplete, InvalidRequest, Overloaded
from ringhold.api.limits import Limits
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Reply, Request
from ringhold.api.proto.ringhold.v1 import kv_pb2
from ringhold.node import keyspace, shards
from ringhold.node.machine.queries import QuerySpec
from ringhold.node.peers.exchange import Respond
from ringhold.node.scatter import SHORT_PAGES_MAX, share_of
from ringhold.node.shards import NodeAnswer
from ringhold.node.storage.engine import KeyRange, View, ViewGone, WriteBatch
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import group_of_partition

RECORDS = 60


async def fill(cluster: SmallCluster, count: int = RECORDS) -> list[bytes]:
    """Records with one entry each; their keys in the order of the index."""
    keys = [b"key:%03d" % number for number in range(count)]
    operations = [
        kv_pb2.Operation(
            set=kv_pb2.SetRequest(key=key, value=b"v" * 10, indexes=[kv_pb2.IndexEntry(name="i", value=b"x")])
        )
        for key in keys
    ]
    response = await cluster.nodes["a"].gateway.batch(kv_pb2.BatchRequest(operations=operations), cluster.deadline)
    assert not any(result.HasField("error") for result in response.results)
    cluster.asked.clear()
    return keys


async def page(cluster: SmallCluster, **fields: object) -> kv_pb2.GetByIndexResponse:
    request = kv_pb2.GetByIndexRequest(**{"index": "i", "equals": b"x", "limit": 1_000, **fields})  # type: ignore[arg-type]
    return await cluster.nodes["a"].gateway.get_by_index(request, cluster.deadline)


def keys_of(response: kv_pb2.GetByIndexResponse) -> list[bytes]:
    return [match.key for match in response.matches]


@virtual
async def test_each_node_is_asked_once_for_all_its_groups() -> None:
    """One request per node and page, none to this node itself, and every group named exactly once."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        response = await page(cluster)
        assert keys_of(response) == keys
        assert Counter(target for _, target, _ in cluster.asked) == {"b": 1, "c": 1}
        asked = [group - 1 for _, _, request in cluster.asked for group in request.query.groups]
        assert sorted(asked) == sorted([*cluster.partitions_of("b"), *cluster.partitions_of("c")])


@pytest.mark.parametrize("descending", [False, True])
@virtual
async def test_pages_by_token_give_every_record_once_in_order(descending: bool) -> None:
    """P4: without changes, the pages put together are the whole answer."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        found: list[bytes] = []
        token = b""
        for _ in range(20):
            response = await page(cluster, limit=7, page_token=token, descending=descending, with_records=True)
            assert all(match.record.value == b"v" * 10 for match in response.matches)
            found += keys_of(response)
            token = response.next_page_token
            if not token:
                break
        assert found == (keys[::-1] if descending else keys)


@virtual
async def test_only_what_was_refused_is_asked_again() -> None:
    """A leader that has lost one group answers for the others; the next request names that one alone."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        moved = cluster.partitions_of("b")[0] + 1
        leads = cluster.nodes["b"].groups.leads
        refusals = 2

        def refuses_one(group: int) -> bool:
            return leads(group) and (group != moved or len(cluster.asked_of("b", "query")) > refusals)

        cluster.nodes["b"].groups.led_of = lambda groups: list(filter(refuses_one, groups))  # type: ignore[method-assign]
        cluster.nodes["b"].groups.is_leader = refuses_one  # type: ignore[method-assign]
        response = await page(cluster)
        assert keys_of(response) == keys
        asked = [list(query.groups) for query in cluster.asked_of("b", "query")]
        assert len(asked[0]) == len(cluster.partitions_of("b"))
        assert asked[1:] == [[moved]] * refusals
        assert len(cluster.asked_of("c", "query")) == 1


@virtual
async def test_leaders_without_a_lease_have_themselves_confirmed_and_answer() -> None:
    """Reads of a page as any other's: a majority is asked, and nobody has to ask this node again."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        groups = cluster.nodes["b"].groups
        confirm, confirmed = groups.confirm, []

        async def noted(group: int) -> None:
            await confirm(group)
            confirmed.append(group)

        groups.led_of = lambda groups: []  # type: ignore[method-assign]
        groups.confirm = noted  # type: ignore[method-assign]
        assert keys_of(await page(cluster)) == keys
        assert sorted(confirmed) == [group_of_partition(partition) for partition in sorted(cluster.partitions_of("b"))]
        assert len(cluster.asked_of("b", "query")) == 1


@virtual
async def test_a_refused_shard_is_asked_of_the_leader_that_is_named() -> None:
    """The refusal says who leads, so the next request goes there, and so do those of later pages."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        keys = await fill(cluster)
        key, (old, *_) = cluster.key_elsewhere("a")
        moved = group_of_partition(partition_of(key, cluster.topology.partitions))
        cluster.nodes[old].groups.set_reluctant("test", True)
        await reached(lambda: not any(map(cluster.nodes[old].groups.is_leader, cluster.nodes[old].groups.hosted)))
        routes = cluster.nodes["a"].routes
        assert routes.leader(moved) == old
        assert keys_of(await page(cluster)) == keys
        assert cluster.nodes[routes.leader(moved)].groups.leads(moved)
        cluster.asked.clear()
        assert keys_of(await page(cluster)) == keys
        assert cluster.asked_of(old, "query") == []


@pytest.mark.parametrize("trouble", [NOT_SENT, REQUEST_LOST, REPLY_LOST])
@virtual
async def test_the_shards_of_a_node_that_does_not_answer_are_asked_of_the_next_leaders(trouble: str) -> None:
    """They are elected meanwhile, so the page is complete; only what was lost is asked again."""
    async with small_cluster(replication_factor=3) as cluster:
        keys = await fill(cluster)
        lost = {group_of_partition(number) for number in cluster.partitions_of("b")}
        cluster.hang("b", trouble)
        assert keys_of(await page(cluster)) == keys
        again = {group for query in cluster.asked_of("c", "query")[1:] for group in query.groups}
        assert again <= lost
        assert all(cluster.nodes["a"].routes.leader(group) != "b" for group in lost)


@pytest.mark.parametrize("name", ["a", "b", "c"])
@virtual
async def test_the_others_are_asked_before_a_gateway_reads_itself(name: str) -> None:
    """Whichever gateway is called: what sends the questions has had its turn, so all nodes work at the same time."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        node, left, left_before = cluster.nodes[name], list[str](), list[str]()
        query = node.shards.query

        def weather(source: str, target: str, request: Request) -> str | None:
            asyncio.get_running_loop().call_soon(left.append, target)
            return None

        async def noting(groups: Sequence[int], spec: QuerySpec) -> NodeAnswer:
            left_before.extend(left)
            return await query(groups, spec)

        cluster.weather = weather
        node.shards.query = noting  # type: ignore[method-assign]
        request = kv_pb2.GetByIndexRequest(index="i", equals=b"x", limit=1_000)
        assert keys_of(await node.gateway.get_by_index(request, cluster.deadline)) == keys
        assert sorted(left_before) == sorted(set(cluster.nodes) - {name})


@virtual
async def test_each_shard_answers_once_for_a_page() -> None:
    """P4: who has answered is not read again while others are waited for, so no match comes from two moments."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        asked = 0

        def weather(source: str, target: str, request: Request) -> str | None:
            nonlocal asked
            asked += target == "c"
            return REPLY_LOST if target == "c" and asked == 1 else None

        cluster.weather = weather
        query = cluster.nodes["a"].shards.query
        own = 0

        async def counted(groups: list[int], spec: QuerySpec) -> NodeAnswer:
            nonlocal own
            own += 1
            return await query(groups, spec)

        cluster.nodes["a"].shards.query = counted  # type: ignore[method-assign, assignment]
        assert keys_of(await page(cluster)) == keys
        assert (own, len(cluster.asked_of("b", "query")), len(cluster.asked_of("c", "query"))) == (1, 1, 2)


@virtual
async def test_an_incomplete_page_is_an_error_that_names_the_missing() -> None:
    """P5: at the deadline the partitions without an answer are named, and no match is given."""
    async with small_cluster() as cluster:
        await fill(cluster)
        cluster.weather = lambda source, target, request: NOT_SENT if target == "c" else None
        began = cluster.clock.now()
        with pytest.raises(Incomplete) as caught:
            await page(cluster)
        assert cluster.clock.now() - began <= 10
        assert [int(number) for number in caught.value.details["missing"].split(",")] == cluster.partitions_of("c")


@virtual
async def test_a_partial_page_is_given_only_when_asked_for_and_marked() -> None:
    """P5: with allow_partial it does not wait for the deadline, and says what is missing."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        cluster.weather = lambda source, target, request: NOT_SENT if target == "c" else None
        began = cluster.clock.now()
        response = await page(cluster, allow_partial=True)
        assert cluster.clock.now() - began < 1
        assert list(response.missing_partitions) == cluster.partitions_of("c")
        assert 0 < len(response.matches) < len(keys)
        cluster.weather = lambda *_: None
        whole = await page(cluster, allow_partial=True)
        assert (keys_of(whole), list(whole.missing_partitions)) == (keys, [])


@virtual
async def test_a_damaged_record_is_data_loss_wherever_it_lies() -> None:
    """A page with a hole is never taken for a whole one."""
    async with small_cluster() as cluster:
        await fill(cluster)
        for owner in ("a", "b"):
            batch = WriteBatch()
            partition = cluster.partitions_of(owner)[0]
            start, end = keyspace.kind_range(keyspace.Kind.ROW, partition + 1)
            stored_key, before = cluster.nodes[owner].engine.scan(start, end, limit=1)[0]
            batch.put(stored_key, b"\x01garbage-garbage")
            cluster.nodes[owner].engine.write(batch)
            with pytest.raises(DataLoss):
                await page(cluster, with_records=True)
            repaired = WriteBatch()
            repaired.put(stored_key, before)
            cluster.nodes[owner].engine.write(repaired)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"index": ""}, "INDEX_NAME_INVALID"),
        ({"index": "n" * 129}, "INDEX_NAME_INVALID"),
        ({"equals": bytes(1_025)}, "INDEX_VALUE_TOO_LARGE"),
        ({"limit": 1_001}, "PAGE_LIMIT_TOO_LARGE"),
        ({"page_token": b"garbage"}, "BAD_PAGE_TOKEN"),
        ({"equals": None}, "QUERY_INVALID"),
        ({"equals": None, "range": kv_pb2.Range(start=b"b", end=b"a")}, "QUERY_INVALID"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@virtual
async def test_a_wrong_query_asks_nobody(fields: dict[str, object], reason: str) -> None:
    """P9: it is refused with its reason before any shard hears of it."""
    async with small_cluster() as cluster:
        with pytest.raises(InvalidRequest) as caught:
            await page(cluster, **fields)
        assert caught.value.reason == reason
        assert cluster.asked == []


class GivenUp:
    """A view that the engine gave up."""

    def __init__(self, view: View) -> None:
        self._view = view

    def scan_keys(self, ranges: Sequence[KeyRange], *, limit: int, reverse: bool = False) -> list[list[bytes]]:
        raise ViewGone("too many views")

    def close(self) -> None:
        self._view.close()


@virtual
async def test_a_query_whose_view_is_gone_starts_over() -> None:
    """It is read anew at a later moment of the call; if that goes on, the node is overloaded, not broken."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        groups = cluster.nodes["a"].groups
        view, taken = groups.view, 0

        def gone_once() -> View:
            nonlocal taken
            taken += 1
            return GivenUp(view()) if taken == 1 else view()  # type: ignore[return-value]

        groups.view = gone_once  # type: ignore[method-assign]
        assert keys_of(await page(cluster)) == keys
        groups.view = lambda: GivenUp(view())  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(Overloaded):
            await page(cluster)


@virtual
async def test_queries_keep_a_bounded_number_of_views_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: more queries than that wait for their turn, and all are answered."""
    monkeypatch.setattr(shards, "QUERIES_AT_ONCE_MAX", 4)
    async with small_cluster("a") as cluster:
        keys = await fill(cluster)
        groups = cluster.nodes["a"].groups
        view, open_now, most = groups.view, 0, 0

        def counted() -> View:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            taken = view()
            close = taken.close

            def closed() -> None:
                nonlocal open_now
                open_now -= 1
                close()

            taken.close = closed  # type: ignore[method-assign]
            return taken

        groups.view = counted  # type: ignore[method-assign]
        pages = await asyncio.gather(*(page(cluster, with_records=True) for _ in range(30)))
        assert all(keys_of(response) == keys for response in pages)
        assert (most, open_now) == (4, 0)


@virtual
async def test_an_answer_that_lacks_rows_counts_for_none() -> None:
    """P5: what is left of it must not pass for all that the node has; its groups are asked for again."""
    async with small_cluster() as cluster:
        keys = await fill(cluster)
        service = cluster.nodes["b"].service
        serve, answers = service.serve, 0

        def torn_once(request: Request, respond: Respond) -> None:
            nonlocal answers
            answers += 1
            is_torn = answers == 1

            def torn(reply: Reply) -> None:
                if is_torn:
                    del reply.query.rows[1:]
                respond(reply)

            serve(request, torn)

        service.serve = torn_once  # type: ignore[method-assign]
        response = await page(cluster, with_records=True)
        assert [match.record.key for match in response.matches] == keys
        assert answers > 1


@virtual
async def test_a_page_has_a_bounded_number_of_bytes() -> None:
    """A page that would be too large ends earlier and has a token, whatever its limit."""
    async with small_cluster(limits=Limits(page_bytes_max=500)) as cluster:
        keys = await fill(cluster)
        response = await page(cluster, with_records=True)
        assert 0 < len(response.matches) < 20
        assert response.next_page_token
        assert keys_of(response) == keys[: len(response.matches)]


@pytest.mark.parametrize(
    ("limit", "groups", "groups_in_all", "nodes", "share"),
    [
        (100, 64, 64, 1, 100),
        (100, 32, 64, 2, 79),
        (100, 21, 64, 3, 56),
        (100, 22, 64, 3, 58),
        (1_000, 171, 512, 3, 408),
        (20, 21, 64, 3, 17),
        (7, 21, 64, 3, 7),
        (1, 21, 64, 3, 1),
        (100, 51, 512, 10, 26),
        (100, 41, 4_096, 100, 9),
        (1_000, 41, 4_096, 100, 29),
        (100, 4, 4_096, 1_000, 5),
        (100, 5, 4_096, 1_000, 6),
    ],
)
def test_shares_grow_with_the_nodes_that_are_asked(
    limit: int, groups: int, groups_in_all: int, nodes: int, share: int
) -> None:
    """Four standard deviations above the mean, as three nodes need, and more where more nodes may exceed theirs."""
    assert share_of(limit, groups, groups_in_all, nodes) == share


@pytest.mark.parametrize("limit", [1, 2, 10, 100, 1_000])
@pytest.mark.parametrize("nodes", [1, 2, 3, 10, 100, 1_000])
def test_a_short_page_comes_once_in_ten_thousand(limit: int, nodes: int) -> None:
    """The exact chance, of all nodes together, that one has its share before the last match of the page."""
    share = share_of(limit, 4, 4 * nodes, nodes)
    hits = sum(comb(limit - 1, count) * (nodes - 1) ** (limit - 1 - count) for count in range(share, limit))
    assert 1 <= share <= limit
    assert nodes * hits / nodes ** (limit - 1) <= SHORT_PAGES_MAX
