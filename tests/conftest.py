"""What holds for every test: the package under test, CI's rule on skips, seeds, hypothesis profiles."""

import os
import signal
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.skips import allowed_patterns, unlisted

import ringhold

# Last on the path, or the repository's own files would hide the installed package's metadata.
sys.path.append(str(Path(__file__).resolve().parent.parent))

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
INSTALLED = "RINGHOLD_TEST_INSTALLED"
SKIPPED = pytest.StashKey[dict[str, str]]()

# Two shared cores make deadlines lie; a failure prints what repeats it.
settings.register_profile("quick", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", parent=settings.get_profile("quick"), max_examples=1_000)
settings.load_profile("quick")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=20, help="seeds per simulation, counted from --first-seed")
    parser.addoption("--first-seed", type=int, default=0, help="the first seed of a simulation")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `simulation_seed` runs once per seed."""
    if "simulation_seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("--first-seed")
        metafunc.parametrize("simulation_seed", range(first, first + metafunc.config.getoption("--seeds")))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = {}
    # A run in the background of a shell ignores Ctrl-C, and so would the commands that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get(INSTALLED) == "1":
        require_installed(Path(ringhold.__file__))
    if not config.getoption("numprocesses", None):
        # Not where workers are to inherit it; where tests run, their nodes refuse names that they don't know.
        os.environ.pop(INSTALLED, None)
    config.pluginmanager.register(SkipGuard(config), "skip-guard")


def require_installed(module: Path) -> None:
    """Stop unless the package under test is the installed wheel."""
    site = Path(sysconfig.get_path("purelib")).resolve()
    if not module.resolve().is_relative_to(site):
        raise pytest.UsageError(f"the tests would run {module}, not the wheel installed in {site}")


class SkipGuard:
    """With CI=true, fails the run for every skip that is not listed with its reason."""

    def __init__(self, config: pytest.Config) -> None:
        self._skipped = config.stash[SKIPPED]
        self._strict = os.environ.get("CI", "") not in {"", "0", "false"}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped[report.nodeid] = str(report.longrepr)

    def _forbidden(self) -> list[str]:
        return unlisted(self._skipped, allowed_patterns(ALLOWED_SKIPS.read_text())) if self._strict else []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._forbidden() and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for test_id in self._forbidden():
            terminalreporter.write_line(f"SKIPPED in CI but not in {ALLOWED_SKIPS.name}: {test_id}", red=True)
