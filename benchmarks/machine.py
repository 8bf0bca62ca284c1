"""Where the figures were taken: they mean little without it."""

import os
import platform
import shutil
import sqlite3
import subprocess
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

SYNCS = 100
TOOLS = ("h2load", "etcd", "redis-server", "valgrind")
PACKAGES = ("ringhold", "grpcio", "protobuf", "aiohttp", "sqlitedict", "rocksdict", "aetcd", "redis")


def described(folder: Path) -> dict[str, str]:
    """Machine and versions, by what they are of; `folder` is on the disk that the nodes write to."""
    return {
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "disk": f"one fdatasync takes {sync_ms(folder):.2f} ms",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        **{tool: first_line([tool, "--version"]) for tool in TOOLS if shutil.which(tool)},
        **{package: version(package) for package in PACKAGES if is_there(package)},
    }


def is_there(package: str) -> bool:
    """Some are only needed by a table or an engine."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def first_line(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def sync_ms(folder: Path) -> float:
    """Median milliseconds of a write of 4 KiB with its fdatasync."""
    spent = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - began)
    return 1000 * median(spent)
