"""Engines against a dict: any sequence of batches, reads, views and openings, and any damage to the end of a log."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_writer import Model, all_rows, batch_number, last_of, small_engine

from ringhold.node.storage.engine import Engine, Row, WriteBatch
from ringhold.node.storage.memory import MemoryEngine
from ringhold.node.storage.opening import ENGINES, open_engine

keys = st.binary(max_size=3)
batches = st.builds(WriteBatch, st.dictionaries(keys, st.binary(max_size=5), max_size=6), st.just(frozenset())).map(
    lambda batch: WriteBatch(batch.puts, set())
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.dictionaries(keys, st.binary(max_size=5), max_size=6), st.sets(keys, max_size=4)),
        st.tuples(st.just("scan"), st.tuples(keys, keys), st.tuples(st.integers(0, 5), st.booleans())),
        st.tuples(st.just("view"), st.none(), st.none()),
    ),
    max_size=20,
)
