"""What the stop of a pod means: only a pod that its StatefulSet does not want any more gives up what it has."""

import json
from typing import Any

import pytest

from ringhold.node.ending import Ending, MalformedAnswer, StatefulSet, decide, parse_stateful_set, pod


@pytest.mark.parametrize(
    ("ordinal", "wanted", "ending"),
    [
        (0, StatefulSet(3), Ending.RESTART),
        (2, StatefulSet(3), Ending.RESTART),
        (3, StatefulSet(3), Ending.LEAVE),
        (6, StatefulSet(3), Ending.LEAVE),
        (0, StatefulSet(1), Ending.RESTART),
        (1, StatefulSet(1), Ending.LEAVE),
        (0, StatefulSet(0), Ending.STOP),
        (5, StatefulSet(0), Ending.STOP),
        (5, StatefulSet(3, start=5), Ending.RESTART),
        (7, StatefulSet(3, start=5), Ending.RESTART),
        (8, StatefulSet(3, start=5), Ending.LEAVE),
        (4, StatefulSet(3, start=5), Ending.LEAVE),
        (8, StatefulSet(0, start=5), Ending.STOP),
        (3, StatefulSet(3, is_deleted=True), Ending.STOP),
        (0, StatefulSet(3, is_deleted=True), Ending.STOP),
    ],
)
def test_what_a_stop_means(ordinal: int, wanted: StatefulSet, ending: Ending) -> None:
    """Pods outside of the wanted ordinals leave; to want none, or to delete all, is a stop and never a leave."""
    assert decide(ordinal, wanted) is ending


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ringhold-0", ("ringhold", 0)),
        ("my-store-12", ("my-store", 12)),
        ("a-1-2", ("a-1", 2)),
        ("ringhold", None),
        ("ringhold-", None),
        ("-3", None),
        ("ringhold-01", None),
        ("ringhold-٣", None),
        ("ringhold-1x", None),
        ("ringhold-9999999999", None),
        ("ringhold-1\n", None),
        ("", None),
    ],
)
def test_names_of_pods(name: str, found: tuple[str, int] | None) -> None:
    """The set's name and the ordinal, as Kubernetes writes it, or nothing."""
    assert pod(name) == found


def answer(**changes: Any) -> dict[str, Any]:
    whole = {
        "kind": "StatefulSet",
        "apiVersion": "apps/v1",
        "metadata": {"namespace": "store", "name": "ringhold", "uid": "u"},
        "spec": {"replicas": 3, "serviceName": "ringhold-peers"},
        "status": {"replicas": 7},
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def parsed(body: object) -> StatefulSet:
    return parse_stateful_set(json.dumps(body).encode(), "store", "ringhold")


def test_a_stateful_set_is_read() -> None:
    """The wanted pods are those of the spec, whatever the status says there are."""
    assert parsed(answer()) == StatefulSet(3)
    assert parsed(answer(spec={"replicas": 0})) == StatefulSet(0)
    assert parsed(answer(spec={"replicas": 2, "ordinals": {"start": 5}})) == StatefulSet(2, 5)
    assert parsed(answer(spec={"replicas": 2, "ordinals": {}})) == StatefulSet(2)
    deleted = {"namespace": "store", "name": "ringhold", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert parsed(answer(metadata=deleted)) == StatefulSet(3, is_deleted=True)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ([], "the answer has no metadata"),
        (None, "the answer has no metadata"),
        (answer(kind="Status"), "the answer is not the StatefulSet store/ringhold"),
        (answer(metadata=None), "the answer has no metadata"),
        (answer(metadata={"namespace": "other", "name": "ringhold"}), "is not the StatefulSet"),
        (answer(metadata={"namespace": "store", "name": "other"}), "is not the StatefulSet"),
        (answer(spec=None), "the answer has no spec"),
        (answer(spec=[3]), "the answer has no spec"),
        (answer(spec={}), "its replicas is None, not a number"),
        (answer(spec={"replicas": "3"}), "its replicas is '3', not a number"),
        (answer(spec={"replicas": True}), "its replicas is True, not a number"),
        (answer(spec={"replicas": 1.0}), "its replicas is 1.0, not a number"),
        (answer(spec={"replicas": -1}), "its replicas is -1, not a number"),
        (answer(spec={"replicas": 2**31}), "not a number"),
        (answer(spec={"replicas": 3, "ordinals": 5}), "the answer has no ordinals"),
        (answer(spec={"replicas": 3, "ordinals": {"start": "5"}}), "its start is '5', not a number"),
    ],
)
def test_anything_else_is_refused(body: object, sentence: str) -> None:
    """A missing number never counts as none: a pod would leave, or stay, by mistake."""
    with pytest.raises(MalformedAnswer, match=sentence):
        parsed(body)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Whatever bytes come, they are an answer that tells nothing."""
    with pytest.raises(MalformedAnswer, match="the answer is not JSON"):
        parse_stateful_set(body, "store", "ringhold")
