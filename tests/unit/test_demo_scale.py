"""What the demo of scaling says and draws: a wrong figure would be believed."""

import doctest
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import timeline
from benchmarks.timeline import SLICE_S, Look, Phase, Sample, Timeline, slices, spans
from scripts import demo_scale
from scripts.demo_scale import parsed, phase_rows


@pytest.mark.parametrize("module", [timeline, demo_scale])
def test_examples_hold(module: ModuleType) -> None:
    """Every example in a docstring gives what it says."""
    assert doctest.testmod(module).failed == 0


def test_a_slice_has_the_operations_that_ended_well_in_it() -> None:
    """Percentiles are of the slice's own operations, in whichever order they came; failed ones have no latency."""
    samples = [Sample(SLICE_S, 9_000), Sample(0.2, 3_000), Sample(0.1, 1_000), Sample(0.3, 70_000, failed=True)]
    found = [(each.at, each.p50_ms, each.p99_ms) for each in slices(samples)]
    assert found == [(0.0, 1.0, 3.0), (SLICE_S, 9.0, 9.0)]


def test_nothing_happened_gives_no_slices_and_no_spans() -> None:
    """A timeline without operations or looks can be drawn, too."""
    assert not list(slices([]))
    assert not list(spans([]))


def test_a_move_that_is_under_way_at_the_end_lasts_until_then() -> None:
    """Its span ends with the last look, and an earlier one is a span of its own."""
    looks = [Look(at, 3, moving) for at, moving in enumerate([2, 0, 0, 1, 4])]
    assert list(spans(looks)) == [(0, 1), (3, 4)]


def test_rows_are_of_the_operations_that_ended_in_the_phase() -> None:
    """The end of a phase belongs to the next one; a phase in which nothing went well has no latencies."""
    samples = [Sample(1.0, 4_000), Sample(2.0, 2_000), Sample(3.0, 5_000, failed=True)]
    phases = [Phase("a", 0.0, 2.0), Phase("b", 2.0, 3.0), Phase("c", 3.0, 3.5)]
    assert list(phase_rows(Timeline(samples, [], [], phases))) == [
        ("a", "2.0", "1", "0", "4.0", "4.0", "4.0"),
        ("b", "1.0", "1", "0", "2.0", "2.0", "2.0"),
        ("c", "0.5", "1", "1", "-", "-", "-"),
    ]


def test_options_become_a_plan() -> None:
    """Milliseconds become seconds; what is not given has a default."""
    plan = parsed(["--calm", "2", "--pause-ms", "40", "--output", "a.png"])
    assert (plan.calm_s, plan.pause_s, plan.output, plan.engine) == (2.0, 0.04, Path("a.png"), "sqlite")


@pytest.mark.parametrize("options", [["--calm", "0"], ["--workers", "0"], ["--pause-ms", "-1"], ["--engine", "x"]])
def test_options_that_can_not_be_right_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code of a usage error, before anything is started."""
    with pytest.raises(SystemExit) as refused:
        parsed(options)
    assert refused.value.code == 2
    assert "error:" in capsys.readouterr().err
