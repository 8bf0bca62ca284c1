"""What is counted as an operation's instructions, and the nodes in one process that they are counted on."""

import doctest
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import callgrind, counted, instructions
from benchmarks.callgrind import ValgrindMissing, by_part, counted_sections, difference, instructions_by_object, part_of
from benchmarks.counted import OPERATIONS, Traffic, carry_out
from benchmarks.failure import BenchmarkFailed
from benchmarks.instructions import Found, counts_on, main, runs_of, shown
from benchmarks.one_process import MEMORY, one_process
from benchmarks.virtual_loop import run_virtually

PROFILE = """\
# callgrind format
version: 1
part: 2
positions: line
events: Ir
summary: 1115

ob=(2) ???
fl=(1) ???
fn=(1) 0x1234
0 5
cob=(6) /usr/lib/libpython3.11.so.1.0
cfi=(2) ceval.c
cfn=(2) eval
calls=3 1630
0 1100

ob=(6)
fl=(2)
fn=(2)
1630 1000
+3 100
-1
* 10
"""
LOOP = "import os\nfor turns in (0, 1_000, 2_000):\n    for _ in range(turns): pass\n    os.getsid(0)\n"


def two_runs(first: float, second: float) -> Found:
    runs = [{"/usr/bin/python3.11": first * 3 / 4, "/lib/libc.so.6": first / 4}, {"/usr/bin/python3.11": second}]
    return Found("get", "rocksdb", 10, runs, Traffic(2.0, 0.5))


@pytest.mark.parametrize("module", [callgrind, counted, instructions])
def test_examples_hold(module: object) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_calls_count_for_who_was_called() -> None:
    """An object has the instructions of its own code: what it called has its own, named when it was first spoken of."""
    found = instructions_by_object(PROFILE.splitlines())
    assert found == {"???": 5, "/usr/lib/libpython3.11.so.1.0": 1110}


def test_a_profile_that_does_not_add_up_is_refused() -> None:
    """Instructions that the parser has missed, or counted twice, don't go unnoticed."""
    with pytest.raises(BenchmarkFailed, match=r"1,115 of 1,116 instructions"):
        instructions_by_object(PROFILE.replace("summary: 1115", "summary: 1116").splitlines())


def test_what_a_run_takes_by_itself_does_not_count() -> None:
    """Only what twice as many operations take more is theirs, objects that one of the runs alone has used included."""
    once, twice = Counter({"a": 1_050, "b": 7}), Counter({"a": 2_050, "c": 100})
    assert difference(once, twice, 100) == {"a": 10.0, "b": -0.07, "c": 1.0}


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/usr/bin/python3.11", "Python"),
        ("/opt/python/lib/libpython3.11.so.1.0", "Python"),
        ("/opt/python/lib/python3.11/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so", "Python"),
        ("/opt/python/lib/python3.11/lib-dynload/_sqlite3.cpython-311-x86_64-linux-gnu.so", "engine"),
        ("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6", "engine"),
        ("/venv/lib/python3.11/site-packages/rocksdict/rocksdict.cpython-311-x86_64-linux-gnu.so", "engine"),
        ("/venv/lib/python3.11/site-packages/google/_upb/_message.abi3.so", "protobuf"),
        ("/venv/lib/python3.11/site-packages/xxhash/_xxhash.cpython-311-x86_64-linux-gnu.so", "xxhash"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc"),
        ("/usr/lib/x86_64-linux-gnu/libstdc++.so.6.0.30", "rest"),
        ("???", "rest"),
    ],
)
def test_a_shared_object_belongs_to_a_part(path: str, part: str) -> None:
    """The libraries are told apart by where they lie."""
    assert part_of(path) == part
    assert by_part({path: 3.0})[part] == 3.0


def test_runs_are_compared() -> None:
    """The figure is the mean of the runs of the program, the scatter what they differ by."""
    found = two_runs(400.0, 500.0)
    assert (found.instructions, round(found.scatter, 3)) == (450.0, 0.222)
    assert (round(found.shares["Python"], 3), round(found.shares["libc"], 3)) == (0.889, 0.111)
    assert [column.header for column in shown([found]).columns][2:5] == ["instructions", "scatter", "Python"]


def test_the_first_section_of_an_operation_is_its_preparation() -> None:
    """Of the three sections of each operation the second and the third are its runs."""
    sections = [Counter({"a": number}) for number in range(6)]
    assert [(once["a"], twice["a"]) for once, twice in runs_of(sections)] == [(1, 2), (4, 5)]


def test_what_says_nothing_of_the_engine_is_counted_once() -> None:
    """On the first engine only; each operation at least once."""
    names = ["get", "apply"]
    assert list(counts_on("memory", "memory", names, 1)) == names
    assert counts_on("rocksdb", "memory", names, 10_000) == {"get": 1}


def test_without_valgrind_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, and one sentence."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert main(["--quick"]) == 2
    assert capsys.readouterr().err == "instructions: counting instructions needs valgrind: run make system-tools\n"


def carried_out(folder: Path, *names: str) -> dict[str, Traffic]:
    async def carry_out_all() -> dict[str, Traffic]:
        async with one_process(MEMORY, folder) as cluster:
            return {name: await carry_out(cluster, name, 3) for name in names}

    return run_virtually(carry_out_all())


def test_every_operation_is_carried_out(tmp_path: Path) -> None:
    """Three whole nodes in one process do all of them; a frame there and one back is what another node costs."""
    found = carried_out(tmp_path, *OPERATIONS)
    assert found.keys() == OPERATIONS.keys()
    assert {name: found[name].frames for name in ("get", "get_other", "page")} == {"get": 0, "get_other": 2, "page": 4}


def test_operations_are_carried_out_the_same_way_each_time(tmp_path: Path) -> None:
    """Time is virtual and chance has a seed: as much is sent and written each time."""
    names = ("get_other", "set_1", "set_32")
    assert carried_out(tmp_path, *names) == carried_out(tmp_path, *names)


def test_callgrind_counts_what_lies_between_marks(tmp_path: Path) -> None:
    """A loop of twice as many turns takes more instructions by those of its turns: some hundreds each."""
    command = [sys.executable, "-I", "-S", "-c", LOOP]
    try:
        (_, once, twice), _ = counted_sections(command, tmp_path, 3)
    except ValgrindMissing as missing:
        pytest.skip(f"NO INSTRUCTION WAS COUNTED: {missing}")
    found = by_part(difference(once, twice, 1_000))
    assert 5 < found["Python"] < 2_000
    with pytest.raises(BenchmarkFailed, match="has not made 2 marks"):
        counted_sections(command, tmp_path, 2)
