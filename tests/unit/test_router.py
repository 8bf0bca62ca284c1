"""One operation on its way to the leader: what is repeated, and what is said when nothing came back (P3)."""

import asyncio
from typing import NoReturn

import pytest
from support.rows import set_of
from support.small_cluster import NOT_SENT, REPLY_LOST, REQUEST_LOST, SmallCluster, small_cluster
from support.virtual_time import pass_time, reached, turns, virtual

from ringhold.api.errors import InDoubt, InvalidRequest, Overloaded, RingholdError, Unavailable
from ringhold.api.proto.ringhold.internal.v1.peer_pb2 import Failure, Request
from ringhold.api.proto.ringhold.storage.v1 import records_pb2 as stored
from ringhold.node.attempts import AttemptsConfig
from ringhold.node.consensus.tickets import AnchorOutOfRange, NotLeader
from ringhold.node.machine.dedupe import DEDUPE_WINDOW_MS
from ringhold.node.peers.exchange import RequestLost
from ringhold.node.router import applied_by, failure_of, raised_by
from ringhold.ring.hashing import partition_of
from ringhold.ring.topology import SYSTEM_GROUP, group_of_partition


def group_of(cluster: SmallCluster, key: bytes) -> int:
    return group_of_partition(partition_of(key, cluster.topology.partitions))


def command(key: bytes, *, anchor_ms: int = 0, request_id: bytes = b"id") -> stored.Command:
    return stored.Command(request_id=request_id, anchor_ms=anchor_ms, mutations=[set_of(key, b"v")])


def anchors_of(cluster: SmallCluster, node_id: str) -> list[int]:
    """The anchors of the commands that were meant for a node."""
    asked = cluster.asked_of(node_id, "propose")
    return [stored.Command.FromString(encoded).anchor_ms for request in asked for encoded in request.commands]


def first_times(count: int, trouble: str, kind: str) -> "Trouble":
    return Trouble(count, trouble, kind)


class Trouble:
    """Strikes the first `count` requests of a kind."""

    def __init__(self, count: int, trouble: str, kind: str) -> None:
        self.left = count
        self._trouble = trouble
        self._kind = kind

    def __call__(self, source: str, target: str, request: Request) -> str | None:
        if request.WhichOneof("body") != self._kind or not self.left:
            return None
        self.left -= 1
        return self._trouble


@virtual
async def test_a_wrong_route_costs_one_redirected_attempt() -> None:
    """A replica that does not lead names the one that does, and that one is asked first from then on."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (leader, wrong, _) = cluster.key_elsewhere("a")
        group, node = group_of(cluster, key), cluster.nodes["a"]
        node.routes.redirected(group, wrong, 0)
        answer = await node.router.read(group, [key], cluster.deadline)
        assert answer.rows == [None]
        assert [target for _, target, _ in cluster.asked] == [wrong, leader]
        await node.router.read(group, [key], cluster.deadline)
        assert [target for _, target, _ in cluster.asked] == [wrong, leader, leader]


@pytest.mark.parametrize("trouble", [NOT_SENT, REQUEST_LOST, REPLY_LOST])
@virtual
async def test_a_read_whose_leader_does_not_answer_goes_to_the_next_replica(trouble: str) -> None:
    """One of them is elected meanwhile; it is found through the others, and asked first from then on."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (leader, *others) = cluster.key_elsewhere("a")
        group, router = group_of(cluster, key), cluster.nodes["a"].router
        await router.propose(group, command(key), cluster.deadline)
        began = cluster.clock.now()
        cluster.hang(leader, trouble)
        (row,) = (await router.read(group, [key], cluster.deadline)).rows
        assert row is not None
        assert cluster.clock.now() - began < 3.5
        cluster.asked.clear()
        await router.read(group, [key], cluster.deadline)
        (target,) = [target for _, target, _ in cluster.asked]
        assert target in others
        assert cluster.nodes[target].groups.leads(group)


@virtual
async def test_a_command_goes_to_the_next_replica_as_it_was() -> None:
    """Failover is a repetition like any other: same request_id, same anchor, so that it takes effect once."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (leader, wrong, _) = cluster.key_elsewhere("a")
        group, node = group_of(cluster, key), cluster.nodes["a"]
        node.routes.redirected(group, wrong, 0)
        await node.router.propose(group, command(key), cluster.deadline)
        assert [target for _, target, _ in cluster.asked] == [wrong, leader]
        assert len({tuple(request.propose.commands) for _, _, request in cluster.asked}) == 1


@pytest.mark.parametrize("trouble", [NOT_SENT, REQUEST_LOST, REPLY_LOST])
@virtual
async def test_a_command_takes_effect_once_although_its_leader_dies_under_it(trouble: str) -> None:
    """P3: whatever the lost leader made of it, the next one finds the same request_id in its own table."""
    async with small_cluster(*"abcd", replication_factor=3) as cluster:
        key, (leader, *_) = cluster.key_elsewhere("a")
        group, router = group_of(cluster, key), cluster.nodes["a"].router
        proposed = asyncio.ensure_future(router.propose(group, command(key), cluster.deadline))
        await turns()
        cluster.hang(leader, trouble)
        assert stored.Outcome.FromString((await proposed).outcome).results[0].version == 1
        (row,) = (await router.read(group, [key], cluster.deadline)).rows
        assert row is not None
        assert stored.Row.FromString(row).version == 1


@virtual
async def test_a_draining_leader_is_passed_over() -> None:
    """It appends nothing any more; another one may lead already."""
    async with small_cluster(replication_factor=3) as cluster:
        key = cluster.key_at("b")
        await cluster.nodes["b"].groups.drain()
        with pytest.raises(Unavailable):
            await cluster.nodes["a"].router.propose(group_of(cluster, key), command(key), cluster.clock.now() + 2)
        assert {target for _, target, _ in cluster.asked} == {"b", "c"}


@pytest.mark.parametrize(("cut_off", "alive"), [({"b"}, "2"), ({"b", "c"}, "1")])
@virtual
async def test_no_quorum_counts_the_replicas(cut_off: set[str], alive: str) -> None:
    """A majority is needed; alive are those with a session, and this node."""
    async with small_cluster(replication_factor=3) as cluster:
        cluster.cut_off = cut_off
        key = cluster.key_at("b")
        router, group = cluster.nodes["a"].router, group_of(cluster, key)
        for asked in (router.read(group, [key], 2.0), router.propose(group, command(key), 4.0)):
            with pytest.raises(Unavailable) as caught:
                await asked
            assert caught.value.details == {"partition": str(group - 1), "needed": "2", "alive": alive}


@virtual
async def test_the_system_group_is_named_as_such() -> None:
    """It is no partition, and its replicas are the system's voters."""
    async with small_cluster() as cluster:
        cluster.weather = lambda *_: NOT_SENT
        (voter,) = cluster.topology.system_voters[:1]
        asker = next(node_id for node_id in cluster.nodes if node_id != voter)
        with pytest.raises(Unavailable, match="system group") as caught:
            await cluster.nodes[asker].router.read(SYSTEM_GROUP, [b"k"], 1.0)
        assert "partition" not in caught.value.details


@pytest.mark.parametrize("trouble", [REQUEST_LOST, REPLY_LOST])
@virtual
async def test_a_lost_request_is_repeated_as_it_was(trouble: str) -> None:
    """The same request_id and anchor in every attempt, so that it takes effect once."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        cluster.weather = first_times(3, trouble, "propose")
        applied = await cluster.nodes["a"].router.propose(group_of(cluster, key), command(key), cluster.deadline)
        assert stored.Outcome.FromString(applied.outcome).results[0].version == 1
        proposals = cluster.asked_of("b", "propose")
        assert len(proposals) == 4
        assert len({tuple(proposal.commands) for proposal in proposals}) == 1
        answer = await cluster.nodes["a"].router.read(group_of(cluster, key), [key], cluster.deadline)
        row = answer.rows[0]
        assert row is not None
        assert stored.Row.FromString(row).version == 1


@pytest.mark.parametrize("trouble", [REQUEST_LOST, REPLY_LOST])
@virtual
async def test_at_the_deadline_what_may_have_arrived_is_in_doubt(trouble: str) -> None:
    """InDoubt carries what the client needs to find out: the request_id and an anchor that is never 0."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        cluster.weather = first_times(1, trouble, "propose")
        deadline = cluster.clock.now() + 1.05
        cluster.weather.left = 100
        with pytest.raises(InDoubt) as caught:
            await cluster.nodes["a"].router.propose(group_of(cluster, key), command(key), deadline)
        assert caught.value.request_id == b"id"
        assert caught.value.anchor > 0
        assert cluster.clock.now() <= deadline + 0.01


@virtual
async def test_a_doubt_stays_although_later_attempts_certainly_failed() -> None:
    """One attempt that may have arrived is enough, whatever the others met."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")

        def weather(source: str, target: str, request: Request) -> str:
            return REQUEST_LOST if len(cluster.asked) == 1 else NOT_SENT

        cluster.weather = weather
        with pytest.raises(InDoubt):
            await cluster.nodes["a"].router.propose(group_of(cluster, key), command(key), cluster.clock.now() + 3)


@virtual
async def test_at_the_deadline_what_never_left_is_unavailable() -> None:
    """Nothing was applied for certain, and the error says so and names the partition."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        cluster.weather = lambda *_: NOT_SENT
        router, group = cluster.nodes["a"].router, group_of(cluster, key)
        for asked in (router.propose(group, command(key), 2.0), router.read(group, [key], 4.0)):
            with pytest.raises(Unavailable) as caught:
                await asked
            assert caught.value.details["partition"] == str(group - 1)
        assert len(cluster.asked) > 10


@virtual
async def test_a_read_is_never_in_doubt() -> None:
    """A lost read is repeated, and at the deadline it is unavailable."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        cluster.weather = first_times(1, REPLY_LOST, "read")
        router, group = cluster.nodes["a"].router, group_of(cluster, key)
        assert (await router.read(group, [key], cluster.deadline)).rows == [None]
        cluster.weather = lambda *_: REPLY_LOST
        with pytest.raises(Unavailable):
            await router.read(group, [key], cluster.clock.now() + 1.5)


@virtual
async def test_an_anchor_chosen_here_is_chosen_anew_if_it_is_refused() -> None:
    """A gateway that has not heard of a group for long learns the log time from the refusal."""
    async with small_cluster() as cluster:
        await pass_time(1_000)
        key = cluster.key_at("b")
        asked = command(key)
        applied = await cluster.nodes["a"].router.propose(group_of(cluster, key), asked, cluster.deadline)
        assert applied.log_time_ms > 900_000
        assert asked.anchor_ms > 900_000
        assert len(cluster.asked_of("b", "propose")) == 2


@virtual
async def test_an_anchor_chosen_here_is_young() -> None:
    """However long ago the group was heard of: one that is too old could not be resolved if the attempt were lost."""
    async with small_cluster() as cluster:
        key, router = cluster.key_at("b"), cluster.nodes["a"].router
        await router.propose(group_of(cluster, key), command(key), cluster.deadline)
        await pass_time(1_000)
        asked = command(key, request_id=b"later")
        applied = await router.propose(group_of(cluster, key), asked, cluster.deadline)
        assert applied.log_time_ms - DEDUPE_WINDOW_MS < asked.anchor_ms <= applied.log_time_ms
        assert len(cluster.asked_of("b", "propose")) == 2


@virtual
async def test_an_anchor_chosen_here_is_never_zero() -> None:
    """0 stands for no anchor: a repetition would get another one, and take effect twice."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        await cluster.nodes["a"].router.propose(group_of(cluster, key), command(key), cluster.deadline)
        assert min(anchors_of(cluster, "b")) > 0


@virtual
async def test_a_clients_anchor_is_never_changed() -> None:
    """It is the client's promise which window the repetition belongs to: refused means expired."""
    async with small_cluster() as cluster:
        await pass_time(1_000)
        for key in (cluster.key_at("a"), cluster.key_at("b")):
            with pytest.raises(InvalidRequest) as caught:
                await cluster.nodes["a"].router.propose(
                    group_of(cluster, key), command(key, anchor_ms=5), cluster.deadline
                )
            assert caught.value.reason == "REQUEST_EXPIRED"
            assert int(caught.value.details["log_time_ms"]) > 900_000


@pytest.mark.parametrize("anchor_ms", [0, 2_000])
@virtual
async def test_after_a_doubt_an_anchor_that_is_refused_leaves_it_in_doubt(anchor_ms: int) -> None:
    """With another anchor the leader could not recognise the first attempt, so there is none."""
    async with small_cluster(attempts=AttemptsConfig(attempt_s_max=400.0)) as cluster:
        await pass_time(2)
        key = cluster.key_at("b")
        cluster.weather = first_times(1, REPLY_LOST, "propose")
        router, deadline = cluster.nodes["a"].router, cluster.clock.now() + 1_000
        with pytest.raises(InDoubt):
            await router.propose(group_of(cluster, key), command(key, anchor_ms=anchor_ms), deadline)
        assert len(set(anchors_of(cluster, "b"))) == 1


@virtual
async def test_overload_is_told_at_once_but_never_ends_a_doubt() -> None:
    """Refused at the first attempt, nothing was applied; refused after a lost one, that is not known."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        router, group = cluster.nodes["a"].router, group_of(cluster, key)
        leader = cluster.nodes["b"].groups
        propose = leader.propose

        def refuse(group: int, command: bytes, anchor_ms: int, mutations: int = 1, *, grows: bool = True) -> NoReturn:
            raise Overloaded("OVERLOADED", "full", {"retry_after_ms": "50"})

        leader.propose = refuse  # type: ignore[method-assign]
        with pytest.raises(Overloaded):
            await router.propose(group, command(key), cluster.deadline)
        cluster.weather = first_times(1, REQUEST_LOST, "propose")
        with pytest.raises(InDoubt):
            await router.propose(group, command(key), cluster.clock.now() + 2)
        asked = asyncio.ensure_future(router.propose(group, command(key), cluster.deadline))
        cluster.weather = first_times(1, REQUEST_LOST, "propose")
        await pass_time(1.5)
        leader.propose = propose  # type: ignore[method-assign]
        assert stored.Outcome.FromString((await asked).outcome).verdict == stored.VERDICT_APPLIED


@virtual
async def test_an_own_commit_that_takes_too_long_is_in_doubt() -> None:
    """The command is in the log already, so giving up the wait does not take it back."""
    async with small_cluster() as cluster:
        key = cluster.key_at("a")
        node, group = cluster.nodes["a"], group_of(cluster, key)
        node.gate.close()
        with pytest.raises(InDoubt):
            await node.router.propose(group, command(key), cluster.clock.now() + 2)
        assert node.groups.commands_waiting > 0
        node.gate.open()
        await reached(lambda: node.groups.leads(group) and not node.groups.commands_waiting)
        assert node.groups.commands_waiting == 0
        answer = await node.router.read(group, [key], cluster.deadline)
        row = answer.rows[0]
        assert row is not None
        assert stored.Row.FromString(row).version == 1


@virtual
async def test_a_draining_leader_is_tried_again() -> None:
    """It has appended nothing; whoever leads next may take the command."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        await cluster.nodes["b"].groups.drain()
        with pytest.raises(Unavailable):
            await cluster.nodes["a"].router.propose(group_of(cluster, key), command(key), cluster.clock.now() + 2)
        assert len(cluster.asked_of("b", "propose")) > 3


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff", b"", stored.Command(request_id=b"1", mutations=[stored.Mutation()]).SerializeToString()]
)
@virtual
async def test_a_command_that_cannot_be_read_never_gets_into_a_log(garbage: bytes) -> None:
    """P9: it would stop the replica, at every start again."""
    async with small_cluster() as cluster:
        group = group_of(cluster, cluster.key_at("b"))
        request = Request()
        request.propose.groups.append(group)
        request.propose.commands.append(garbage)
        reply = await cluster.nodes["a"].router.ask("b", group, request, 1.0)
        with pytest.raises(RingholdError, match="can't carry it out"):
            applied_by(reply, 0, group)
        assert cluster.nodes["b"].groups.commands_waiting == 0


@virtual
async def test_commands_of_one_request_fail_apart() -> None:
    """Each has its own outcome or failure, in its place."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        group, elsewhere = group_of(cluster, key), group_of(cluster, cluster.key_at("c"))
        good = command(key, anchor_ms=1).SerializeToString()
        request = Request()
        request.propose.groups.extend([SYSTEM_GROUP, group, elsewhere, group])
        request.propose.commands.extend([good, good, good, b""])
        reply = await cluster.nodes["a"].router.ask("b", group, request, 1.0)
        assert stored.Outcome.FromString(applied_by(reply, 1, group).outcome).results[0].version == 1
        assert sorted(reply.propose.failures) == [0, 2, 3]
        with pytest.raises(NotLeader):
            applied_by(reply, 2, elsewhere)


@virtual
async def test_a_command_without_a_group_is_refused() -> None:
    """P9: nobody could say which log it was meant for, nor for which the others."""
    async with small_cluster() as cluster:
        key = cluster.key_at("b")
        request = Request()
        request.propose.commands.append(command(key, anchor_ms=1).SerializeToString())
        with pytest.raises(RingholdError, match="needs a group"):
            await cluster.nodes["a"].router.ask("b", group_of(cluster, key), request, 1.0)
        assert cluster.nodes["b"].groups.commands_waiting == 0


@virtual
async def test_many_commands_come_back_in_their_order_each_with_its_own_end() -> None:
    """Those that certainly failed go again side by side; one that is refused takes no other with it."""
    async with small_cluster() as cluster:
        keys = [cluster.key_at(node_id) for node_id in "bcab"]
        cluster.weather = first_times(1, NOT_SENT, "propose")
        commands = [(group_of(cluster, key), command(key, request_id=b"%d" % at)) for at, key in enumerate(keys)]
        commands[2][1].anchor_ms = 1 << 60
        *applied, last = await cluster.nodes["a"].router.propose_many(commands, cluster.deadline)
        assert isinstance(applied.pop(), InvalidRequest)
        assert [isinstance(each, RingholdError) for each in (*applied, last)] == [False] * 3


@virtual
async def test_who_no_longer_waits_for_many_commands_repeats_none_of_them() -> None:
    """Whatever becomes of the first attempts, and wherever: they may still take effect."""
    async with small_cluster() as cluster:
        keys = [cluster.key_at(node_id) for node_id in "abc"]
        commands = [(group_of(cluster, key), command(key)) for key in keys]
        cluster.weather = lambda *_: REQUEST_LOST
        proposing = asyncio.ensure_future(cluster.nodes["a"].router.propose_many(commands, cluster.deadline))
        await reached(lambda: len(cluster.asked) == 2)
        proposing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await proposing
        await pass_time(5)
        assert len(cluster.asked) == 2


@pytest.mark.parametrize(
    "error",
    [
        NotLeader(7, "b", 3),
        NotLeader(7, None, 0),
        AnchorOutOfRange(12_345),
        RequestLost("gone"),
        Overloaded("OVERLOADED", "full", {"retry_after_ms": "50"}),
        Unavailable("DRAINING", "stopping"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_leader_raises_is_raised_at_the_gateway(error: Exception) -> None:
    """A failure on the wire gives the same kind of error, with the same figures."""
    again = raised_by(Failure.FromString(failure_of(error).SerializeToString()), 7)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_bug_is_not_told_as_a_failure() -> None:
    """Only what is expected travels; anything else stops the node that it happened on."""
    with pytest.raises(ZeroDivisionError):
        failure_of(ZeroDivisionError())
