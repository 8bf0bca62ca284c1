"""What `import ringhold` costs, and what it offers."""

import json
import subprocess
import sys

import pytest

import ringhold

HEAVY = ["aiohttp", "typer", "pydantic", "uhashring", "sqlitedict", "structlog", "rich"]


def loaded_by(program: str) -> dict[str, float]:
    """The modules that a program loads in a fresh interpreter, and under "" the CPU seconds that it takes."""
    measure = (
        "import sys, time, json; start = time.process_time()\n"
        f"{program}\n"
        "took = time.process_time() - start\n"
        "print(json.dumps({**dict.fromkeys(sys.modules, 0.0), '': took}))"
    )
    done = subprocess.run([sys.executable, "-c", measure], check=True, capture_output=True, text=True, timeout=60)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_the_client_is_light() -> None:
    """It loads in 0.3 s of CPU time, the best of three, and nothing of what only nodes and the command line need."""
    runs = [loaded_by("import ringhold; ringhold.Client") for _ in range(3)]
    assert not set(HEAVY) & set(runs[0])
    assert min(run[""] for run in runs) <= 0.3


@pytest.mark.parametrize("program", ["import ringhold", "import ringhold; ringhold.KeyNotFound"])
def test_the_package_alone_loads_no_grpc(program: str) -> None:
    """`python -m ringhold --help` must not pay for it."""
    assert "grpc" not in loaded_by(program)


@pytest.mark.parametrize("name", ringhold.__all__)
def test_every_name_of_the_package_exists(name: str) -> None:
    """What the root promises, it has."""
    assert getattr(ringhold, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        ringhold.Nothing  # noqa: B018
