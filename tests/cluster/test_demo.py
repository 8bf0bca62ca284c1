"""`make demo` in the eyes of a newcomer: it tells its story, and it ends as it promises."""

import os
import subprocess
import sys
from pathlib import Path

from ringhold.api.client import Client

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"
END_S_MAX = 30.0


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("RINGHOLD_")}
    return kept | variables


def test_demo_in_ci() -> None:
    """With CI=true the demo imports, reads and queries through all nodes, shows where keys live, and ends well."""
    ended = subprocess.run(
        [sys.executable, str(DEMO)],
        stdin=subprocess.PIPE,
        capture_output=True,
        env=environment(CI="true"),
        timeout=END_S_MAX,
        check=False,
    )
    story = ended.stdout.decode()
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr
    assert "time zones imported" in story
    for number in (1, 2, 3):
        assert f"node-{number}: " in story
    assert story.count("Europe/Zurich#") == 1
    assert "America/Sao_Paulo" in story
    assert story.endswith("stopped\n")


def test_demo_runs_until_stdin_ends() -> None:
    """The demo leaves the cluster running, and stops it when its stdin is closed."""
    demo = subprocess.Popen(
        [sys.executable, str(DEMO)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    )
    assert demo.stdout is not None
    told: list[str] = []
    while not told or "runs until Ctrl-C" not in told[-1]:
        told.append(demo.stdout.readline())
        assert told[-1], "".join(told)
    (line,) = [line for line in told if "RINGHOLD_ENDPOINTS=" in line]
    with Client(line.partition("=")[2].strip().split(",")) as client:
        assert sorted(match.key for match in client.find("country", "CH")) == [b"Europe/Zurich"]
    demo.communicate(timeout=END_S_MAX)
    assert demo.returncode == 0
