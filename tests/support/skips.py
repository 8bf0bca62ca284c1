"""Which skipped tests CI accepts: those that `allowed_skips.txt` lists with a reason."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def allowed_patterns(text: str) -> list[str]:
    """The patterns of test ids in the text of `allowed_skips.txt`; a line without a reason is a ValueError."""
    lines = [line.strip() for line in text.splitlines()]
    return [pattern_of(line) for line in lines if line and not line.startswith("#")]


def pattern_of(line: str) -> str:
    pattern, separator, reason = line.partition(" : ")
    if not separator or not reason.strip():
        raise ValueError(f"an allowed skip needs a pattern, ' : ' and a reason: {line!r}")
    return pattern.strip()


def unlisted(test_ids: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The ids that no pattern matches, in order; brackets in a pattern stand for themselves."""
    literal = [pattern.replace("[", "[[]") for pattern in patterns]
    return [test_id for test_id in test_ids if not any(fnmatchcase(test_id, pattern) for pattern in literal)]
