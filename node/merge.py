"""The gateway's core of an index query: one page from the answers of several nodes.

Each node answers in the order of pairs (see node/keyspace.py) and may have been cut at a limit. What a cut answer left
out comes after its last match, so a page never goes past the earliest such end.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, islice, takewhile
from operator import gt, itemgetter, lt
from typing import NamedTuple, TypeAlias

Match: TypeAlias = tuple[bytes, bytes]
"""(pair, stored row without its envelope; empty unless records were asked for)."""

MATCH_OVERHEAD_BYTES = 24
"""What a match costs on the wire beside its texts, at most: the tags and lengths of its fields."""

_pair_of = itemgetter(0)


class InvalidAnswer(ValueError):
    """A node's answer can't be merged: it was cut before its first match, or is out of order."""


class ShardAnswer(NamedTuple):
    """One node's matches, in order. If `cut`, there may be more after the last."""

    matches: Sequence[Match]
    cut: bool


class Page(NamedTuple):
    """The first matches of all. If `more`, the next page begins after `resume`, the last pair of this one."""

    matches: list[Match]
    more: bool
    resume: bytes | None


def bytes_of(matches: Iterable[Match]) -> int:
    """What matches count for in the size of a page: with its record, a key is sent twice."""
    return sum([len(pair) * (2 if row else 1) + len(row) + MATCH_OVERHEAD_BYTES for pair, row in matches])


def first_within(matches: list[Match], bytes_max: int) -> list[Match]:
    """The first matches that are within so many bytes together; one at least, if there is one."""
    if bytes_of(matches) <= bytes_max:  # as nearly always
        return matches
    size = 0
    for place, match in enumerate(matches):
        size += bytes_of((match,))
        if place and size > bytes_max:
            return matches[:place]
    return matches


def merge_page(answers: Sequence[ShardAnswer], *, limit: int, bytes_max: int, descending: bool) -> Page:
    """At most `limit` matches and `bytes_max` bytes (one match at least), each pair once. Raises InvalidAnswer.

    A pair that two nodes answered, because its group's leader moved between them, is taken from the earlier answer.
    """
    assert limit > 0, "a page without room"
    for answer in answers:
        _check(answer, descending=descending)
    matches: list[Match] = []
    last = None
    more = any(answer.cut for answer in answers)
    for match in _up_to_first_cut(answers, descending=descending):
        if match[0] == last:
            continue
        if len(matches) == limit:
            more = True
            break
        matches.append(match)
        last = match[0]
    within = first_within(matches, bytes_max)
    return Page(within, more or len(within) < len(matches), within[-1][0] if within else None)


def _up_to_first_cut(answers: Sequence[ShardAnswer], *, descending: bool) -> Iterable[Match]:
    """In order; of equal pairs that of the earlier answer first. (A sort merges what is in order already.)"""
    matches = sorted(chain.from_iterable(answer.matches for answer in answers), key=_pair_of, reverse=descending)
    ends = [answer.matches[-1][0] for answer in answers if answer.cut]
    if not ends:
        return matches
    if descending:
        last = max(ends)
        return takewhile(lambda match: match[0] >= last, matches)
    first = min(ends)
    return takewhile(lambda match: match[0] <= first, matches)


def _check(answer: ShardAnswer, *, descending: bool) -> None:
    if answer.cut and not answer.matches:
        raise InvalidAnswer("an answer that was cut before its first match")
    pairs = [pair for pair, _ in answer.matches]
    if not all(map(gt if descending else lt, pairs, islice(pairs, 1, None))):
        raise InvalidAnswer("an answer whose matches are out of order")
