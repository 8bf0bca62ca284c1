"""What `benchmarks.soak` compares: late minutes with early ones."""

import pytest

from benchmarks.soak import Minute, figures_of, minutes_table, parsed
from benchmarks.steady import Taken


def minute(cpu_s: float, resident_bytes: int, seconds: float, *failures: str) -> Minute:
    return Minute(Taken([seconds] * 100, list(failures)), cpu_s, resident_bytes)


def test_the_last_third_is_compared_with_the_first() -> None:
    """Without the first minute of all; what swings for a single minute does not count."""
    first = [minute(9.0, 50, 9.0), *[minute(1.0, 100, 0.01)] * 3, minute(5.0, 100, 5.0)]
    middle = [minute(7.0, 500, 7.0, "Unavailable")] * 5
    last = [*[minute(2.0, 150, 0.03)] * 4, minute(8.0, 900, 8.0)]
    figures = {each.name: each for each in figures_of([*first, *middle, *last])}
    assert figures["soak_p99"].value == pytest.approx(3.0)
    assert figures["soak_cpu"].value == pytest.approx(2.0)
    assert figures["soak_memory"].value == pytest.approx(1.5)
    assert figures["soak_failures"].value == 5
    assert not any(each.reached for each in figures.values())
    assert minutes_table(first).row_count == 5


def test_too_few_minutes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Of five there is no first third without the first minute."""
    assert parsed([]).minutes == 15
    with pytest.raises(SystemExit):
        parsed(["--minutes", "5"])
    assert "too few" in capsys.readouterr().err
