"""Real nodes for the tests of the whole."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.nodes import NodeProcess, node_processes, running


@pytest.fixture(scope="module")
def shared_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[NodeProcess]]:
    """Three nodes for all tests of a module, which must leave them as they are."""
    with running(node_processes(tmp_path_factory.mktemp("three"), 3)) as nodes:
        yield nodes


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Sequence[NodeProcess]]:
    """Three nodes of the test's own, to be killed and restarted."""
    with running(node_processes(tmp_path, 3)) as nodes:
        yield nodes
