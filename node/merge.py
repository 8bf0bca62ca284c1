"""The gateway's core of an index query: one page from the answers of several nodes.

Each node answers in the order of pairs (see node/keyspace.py) and may have been cut at a limit. What a cut answer left
out comes after its last match, so a page never goes past the earliest such end.
"""

import heapq
from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from operator import itemgetter
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


def match_bytes(match: Match) -> int:
    """What a match counts for in the size of a page: with its record, the key is sent twice."""
    pair, row = match
    return len(pair) * (2 if row else 1) + len(row) + MATCH_OVERHEAD_BYTES


def merge_page(answers: Sequence[ShardAnswer], *, limit: int, bytes_max: int, descending: bool) -> Page:
    """At most `limit` matches and `bytes_max` bytes (one match at least), each pair once. Raises InvalidAnswer.

    A pair that two nodes answered, because its group's leader moved between them, is taken from the earlier answer.
    """
    assert limit > 0, "a page without room"
    for answer in answers:
        _check(answer, descending=descending)
    matches: list[Match] = []
    size = 0
    for match in _up_to_first_cut(answers, descending=descending):
        if matches and match[0] == matches[-1][0]:
            continue
        size += match_bytes(match)
        if matches and (len(matches) == limit or size > bytes_max):
            return Page(matches, more=True, resume=matches[-1][0])
        matches.append(match)
    more = any(answer.cut for answer in answers)
    return Page(matches, more, matches[-1][0] if matches else None)


def _up_to_first_cut(answers: Sequence[ShardAnswer], *, descending: bool) -> Iterator[Match]:
    merged = heapq.merge(*(answer.matches for answer in answers), key=_pair_of, reverse=descending)
    ends = [answer.matches[-1][0] for answer in answers if answer.cut]
    if not ends:
        return merged
    if descending:
        last = max(ends)
        return takewhile(lambda match: match[0] >= last, merged)
    first = min(ends)
    return takewhile(lambda match: match[0] <= first, merged)


def _check(answer: ShardAnswer, *, descending: bool) -> None:
    if answer.cut and not answer.matches:
        raise InvalidAnswer("an answer that was cut before its first match")
    for (before, _), (after, _) in pairwise(answer.matches):
        if (before <= after) if descending else (before >= after):
            raise InvalidAnswer("an answer whose matches are out of order")
