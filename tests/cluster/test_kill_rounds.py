"""Round after round of load, kill -9 and restart: every acknowledged write stays, on both engines (P1)."""

from pathlib import Path

import pytest
from chaos.durability import Tally, durability

ROUNDS = 2
ROUNDS_LONG = 15


def live_through(folder: Path, engine: str, rounds: int) -> Tally:
    tally = durability(folder, engine, rounds, seed=rounds)
    assert not tally.wrong, "\n".join(tally.lines())
    return tally


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("rocksdb", marks=pytest.mark.long)])
def test_kill_9_loses_nothing(tmp_path: Path, engine: str) -> None:
    """Load, kill -9 of some nodes or all, restart: no acknowledged write is lost, no index entry is wrong."""
    tally = live_through(tmp_path, engine, ROUNDS)
    assert tally.rounds == ROUNDS
    assert tally.acknowledged > 0


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["sqlite", "rocksdb"])
def test_kill_9_round_after_round(tmp_path: Path, engine: str) -> None:
    """The same for more rounds, on one cluster: some of them kill all nodes at once."""
    tally = live_through(tmp_path, engine, ROUNDS_LONG)
    assert tally.kills_of_all > 0
