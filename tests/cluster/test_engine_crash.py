"""Engines and death: after kill -9 at any moment an engine holds a prefix of the batches, all synced ones included."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from support import engine_writer
from support.engine_writer import Model, all_rows, last_of, small_engine, starts_of_log

from ringhold.node.storage.opening import ENGINES

ROUNDS = 8


def write_and_kill(kind: str, folder: Path, acknowledgements: int) -> int:
    """Let a writer acknowledge so many batches and a few more, kill it, and give the last that it acknowledged."""
    command = [sys.executable, engine_writer.__file__, kind, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(acknowledgements)]
        writer.kill()
        lines += writer.stdout.readlines()
    complete = [line for line in lines if line.endswith("\n")]
    assert len(complete) >= acknowledgements
    return int(complete[-1])


@pytest.mark.parametrize("kind", ENGINES)
def test_a_killed_writer_leaves_a_prefix_with_all_it_acknowledged(kind: str, tmp_path: Path) -> None:
    """Round after round, on one folder: every acknowledged batch is there, and no part of another."""
    rng, model, starts = Random(1), Model(), 0
    for _ in range(ROUNDS):
        acknowledged = write_and_kill(kind, tmp_path, rng.choice([1, 5, 40, 200]) + rng.randrange(40))
        starts += starts_of_log(tmp_path) if kind == "sqlite" else 1
        engine = small_engine(kind, tmp_path)
        last = last_of(engine)
        assert last >= acknowledged
        assert all_rows(engine) == model.rows_after(last)
        engine.close()
    assert starts > ROUNDS // 2, "the log should have started over in some of the rounds"


@pytest.mark.parametrize("kind", ENGINES)
def test_a_crash_after_a_crash_loses_nothing_more(kind: str, tmp_path: Path) -> None:
    """Writers killed one after the other, none of them closing: the recovery of each goes on where the last stopped."""
    acknowledged = [write_and_kill(kind, tmp_path, count) for count in (30, 3, 60, 1, 90)]
    engine = small_engine(kind, tmp_path)
    assert acknowledged == sorted(acknowledged)
    assert last_of(engine) >= acknowledged[-1]
    assert all_rows(engine) == Model().rows_after(last_of(engine))
    engine.close()
