"""Replaces a part of the product for the time of a block, to watch it or to break it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

Make: TypeAlias = Callable[[Any], Any]
"""What makes the replacement of the original."""

Note: TypeAlias = Callable[[str], None]
"""What is told that a path was taken."""

Place: TypeAlias = tuple[object, str, Callable[[Note], Make]]
"""An owner, the name of its part, and what watches it."""


@contextmanager
def patched(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Within the block `owner.name` is `make(original)`."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)
