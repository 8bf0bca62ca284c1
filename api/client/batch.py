"""A batch as a machine: what fails in a repeatable way is sent again, the rest keeps its results.

It needs the topology and an anchor for each partition before it sends a mutation: like a single one, see calls.py.
"""

from collections.abc import Sequence

from ..errors import KeyNotFound, RingholdError, error_for
from ..proto.ringhold.v1 import kv_pb2
from ..proto.ringhold.v1.cluster_pb2 import TopologyRequest
from ..status import from_operation_error
from .calls import Call, Effect, Fail, Finish, Surroundings
from .fate import MutationFate, ReadFate, log_time_in
from .operations import Get, Operation
from .unit import Outcome, Unit, units_of
from .wire import as_operation, operation_request, record_of


class Batch(Call[list[Outcome]]):
    """One outcome for each operation, in their order. Fails as a whole only if it had no effect at all."""

    def __init__(
        self, around: Surroundings, timeout_s: float, operations: Sequence[Operation], request_id: bytes
    ) -> None:
        self._operations = operations
        self._requests = [operation_request(operation) for operation in operations]
        super().__init__(around, self._requests[0].key if self._requests else None, timeout_s)
        self._attempt_timeout_s = around.config.bulk_attempt_timeout_s
        self._request_id = request_id
        self._units: list[Unit] = []
        self._sent: list[Unit] = []
        self._asked_anchors = False
        self._preparing = ReadFate()

    def start(self, now: float) -> Effect[list[Outcome]]:
        return super().start(now) if self._requests else Finish([])

    def _attempt(self, now: float) -> Effect[list[Outcome]]:
        if not self._units and self._lacks_topology():
            return self._ask(TopologyRequest(), now, self._refreshed, self._not_prepared)
        self._units = self._units or self._plan()
        self._take_anchors(now)
        without = [unit for unit in self._units if unit.needs_anchor and not unit.is_settled]
        if without and not self._asked_anchors:
            return self._ask_anchors(without, now)
        return self._ask_outcomes(now)

    def _lacks_topology(self) -> bool:
        mutates = any(not isinstance(operation, Get) for operation in self._operations)
        return mutates and not self._around.routing.partitions

    def _plan(self) -> list[Unit]:
        partitions = [self._around.routing.partition_of(request.key) for request in self._requests]
        keys = [request.key for request in self._requests]
        return units_of(self._operations, keys, partitions, self._request_id)

    def _take_anchors(self, now: float) -> None:
        for unit in self._units:
            if isinstance(unit.fate, MutationFate) and unit.fate.anchor is None:
                unit.fate.anchor = self._around.routing.log_time_ms(unit.partition, now)

    def _ask_anchors(self, units: list[Unit], now: float) -> Effect[list[Outcome]]:
        self._asked_anchors, self._sent = True, units
        keys = (self._requests[unit.positions[0]].key for unit in units)
        reads = [as_operation(kv_pb2.GetRequest(key=key)) for key in keys]
        return self._ask(kv_pb2.BatchRequest(operations=reads), now, self._learnt, self._not_prepared)

    def _learnt(self, response: kv_pb2.BatchResponse, now: float) -> Effect[list[Outcome]]:
        # A unit that got no anchor stays behind in this round, and asks again in the next.
        for unit, result in zip(self._sent, response.results, strict=False):
            self._learn(unit, result, now)
        return self._proceed(now)

    def _learn(self, unit: Unit, result: kv_pb2.OperationResult, now: float) -> None:
        assert isinstance(unit.fate, MutationFate)
        error = self._error(unit.positions[0], result, now) if result.HasField("error") else None
        if error is None:
            self._around.routing.heard(result.get.header, now)
            unit.fate.anchor_learnt(result.get.header.log_time_ms)
        elif isinstance(error, KeyNotFound):
            unit.fate.anchor_learnt(log_time_in(error))
        elif (final := ReadFate().judge(error)) is not None:
            unit.refuse(final)
        else:
            unit.fate.anchor_not_learnt(error)

    def _not_prepared(self, error: RingholdError, now: float) -> Effect[list[Outcome]]:
        """The topology or the anchors could not be had: no mutation went out."""
        self._asked_anchors = False
        final = self._preparing.judge(error)
        if final is None:
            return self._again(error, now)
        return self._end_all(final)

    def _ask_outcomes(self, now: float) -> Effect[list[Outcome]]:
        self._asked_anchors = False
        self._sent = [unit for unit in self._units if not unit.is_settled and not unit.needs_anchor]
        if not self._sent:
            return self._after_round(self._preparing.ending(), now)
        for unit in self._sent:
            self._sign(unit)
        operations = [as_operation(self._requests[position]) for position in self._positions_sent()]
        request = kv_pb2.BatchRequest(operations=operations, request_id=self._request_id)
        return self._ask(request, now, self._answered, self._refused)

    def _sign(self, unit: Unit) -> None:
        if isinstance(unit.fate, MutationFate):
            for position in unit.positions:
                request = self._requests[position]
                assert not isinstance(request, kv_pb2.GetRequest)
                assert unit.fate.anchor, "a unit without an anchor is not sent"
                request.anchor = unit.fate.anchor

    def _positions_sent(self) -> list[int]:
        return sorted(position for unit in self._sent for position in unit.positions)

    def _answered(self, response: kv_pb2.BatchResponse, now: float) -> Effect[list[Outcome]]:
        positions = self._positions_sent()
        if len(response.results) != len(positions):
            return self._refused(error_for("UNKNOWN", "the answer to a batch has another number of results"), now)
        outcomes = {
            position: self._outcome(position, result, now)
            for position, result in zip(positions, response.results, strict=True)
        }
        errors = [unit.take({at: outcomes[at] for at in unit.positions}) for unit in self._sent]
        return self._after_round(next(filter(None, errors), None), now)

    def _outcome(self, position: int, result: kv_pb2.OperationResult, now: float) -> Outcome:
        if result.HasField("error"):
            return self._error(position, result, now)
        if result.HasField("get"):
            self._around.routing.heard(result.get.header, now)
            return record_of(self._requests[position].key, result.get)
        mutated = result.set if result.HasField("set") else result.delete
        self._around.routing.heard(mutated.header, now)
        return mutated.version

    def _error(self, position: int, result: kv_pb2.OperationResult, now: float) -> RingholdError:
        error = from_operation_error(result.error)
        partition = self._around.routing.partition_of(self._requests[position].key)
        if partition is not None:
            self._around.routing.heard_log_time(partition, log_time_in(error), now)
        return error

    def _refused(self, error: RingholdError, now: float) -> Effect[list[Outcome]]:
        if ReadFate().judge(error) is not None and all(unit.is_untouched for unit in self._units):
            return Fail(error)
        errors = [unit.refuse(error) for unit in self._sent]
        return self._after_round(next(filter(None, errors), None), now)

    def _after_round(self, error: RingholdError | None, now: float) -> Effect[list[Outcome]]:
        if all(unit.is_settled for unit in self._units):
            return self._ending()
        return self._again(error or self._preparing.ending(), now)

    def _end_all(self, error: RingholdError) -> Effect[list[Outcome]]:
        if all(unit.is_untouched for unit in self._units):
            return Fail(error)
        for unit in self._units:
            if unit.needs_anchor:
                unit.refuse(error)
        return self._ending()

    def _ending(self) -> Effect[list[Outcome]]:
        if not self._units:
            return Fail(self._preparing.ending())
        outcomes: dict[int, Outcome] = {}
        for unit in self._units:
            unit.end()
            outcomes.update(unit.outcomes)
        return Finish([outcomes[position] for position in range(len(self._operations))])
