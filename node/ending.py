"""What a node does when it is told to stop, as far as its StatefulSet decides it. Pure; `kubernetes.py` asks.

See docs/operations.md, "Kubernetes".
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

NUMBER_MAX = 2**31 - 1
POD_NAME = re.compile(r"(?P<set>.+)-(?P<ordinal>0|[1-9][0-9]{0,8})")


class Ending(Enum):
    """What a stop means. Only LEAVE gives up what the node has."""

    LEAVE = "leave"
    """For good: its replicas move to others, then the node is removed from the cluster."""
    RESTART = "restart"
    """For a moment: leaderships are handed over, and the others wait for it."""
    STOP = "stop"
    """The whole cluster stops, and keeps all it has: for the node the same as RESTART."""


class EndingUnknown(Exception):
    """Nobody can say what a stop means; the text says why. Then it must not mean to leave for good."""


class MalformedAnswer(EndingUnknown):
    """An answer that is no StatefulSet that a cluster would give."""


@dataclass(frozen=True, slots=True)
class StatefulSet:
    """How many pods are wanted: those with the ordinals from `start` to `start + replicas - 1`."""

    replicas: int
    start: int = 0
    is_deleted: bool = False
    """It goes as a whole, with all its pods."""


def decide(ordinal: int, wanted: StatefulSet) -> Ending:
    """What the stop of a pod means.

    >>> decide(3, StatefulSet(replicas=3)), decide(2, StatefulSet(replicas=3)), decide(3, StatefulSet(replicas=0))
    (<Ending.LEAVE: 'leave'>, <Ending.RESTART: 'restart'>, <Ending.STOP: 'stop'>)
    """
    if wanted.replicas == 0 or wanted.is_deleted:
        return Ending.STOP
    if wanted.start <= ordinal < wanted.start + wanted.replicas:
        return Ending.RESTART
    return Ending.LEAVE


def pod(name: str) -> tuple[str, int] | None:
    """The StatefulSet and the ordinal that the name of a pod tells; None if it is no such name.

    >>> pod("ringhold-12")
    ('ringhold', 12)
    """
    found = POD_NAME.fullmatch(name)
    return (found["set"], int(found["ordinal"])) if found else None


def parse_stateful_set(body: bytes, namespace: str, name: str) -> StatefulSet:
    """What the API server says of this very StatefulSet. Raises MalformedAnswer.

    `replicas` must be there: the server fills in what was not given, so an answer without it is none.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedAnswer("the answer is not JSON") from error
    metadata, spec = _object(answer, "metadata"), _object(answer, "spec")
    told = (answer.get("kind"), metadata.get("namespace"), metadata.get("name"))
    if told != ("StatefulSet", namespace, name):
        raise MalformedAnswer(f"the answer is not the StatefulSet {namespace}/{name}")
    ordinals = _object(spec, "ordinals") if "ordinals" in spec else {}
    return StatefulSet(
        replicas=_number(spec, "replicas"),
        start=_number(ordinals, "start") if "start" in ordinals else 0,
        is_deleted=metadata.get("deletionTimestamp") is not None,
    )


def _object(outer: Any, field: str) -> dict[str, Any]:
    inner = outer.get(field) if isinstance(outer, dict) else None
    if not isinstance(inner, dict):
        raise MalformedAnswer(f"the answer has no {field}")
    return inner


def _number(outer: dict[str, Any], field: str) -> int:
    number = outer.get(field)
    if type(number) is not int or not 0 <= number <= NUMBER_MAX:
        raise MalformedAnswer(f"its {field} is {number!r}, not a number")
    return number
