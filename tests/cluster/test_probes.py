"""A pod's probes, put to a real node that was started as the manifest starts it."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from support.polling import until

STATEFUL_SET = Path(__file__).resolve().parents[2] / "manifests" / "base" / "stateful-set.yaml"


def container() -> dict[str, Any]:
    (only,) = yaml.safe_load(STATEFUL_SET.read_text())["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pod_flag(name: str) -> str:
    """A flag of the pod, as the manifest gives it."""
    (found,) = [argument for argument in container()["args"] if argument.startswith(f"--{name}=")]
    return str(found)


@pytest.fixture
async def http_address(tmp_path: Path) -> AsyncIterator[str]:
    """The HTTP address of a lone node with the pod's engine; the node is stopped as a pod is, and must exit with 0."""
    grpc, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    flags = [f"--data-dir={tmp_path / 'data'}", f"--grpc={grpc}", f"--http={http}", pod_flag("engine"), "--expect=1"]
    node = await asyncio.create_subprocess_exec(sys.executable, "-m", "ringhold", "serve", *flags)
    yield http
    node.send_signal(signal.SIGTERM)
    async with asyncio.timeout(container_grace_s()):
        assert await node.wait() == 0


def container_grace_s() -> float:
    return float(yaml.safe_load(STATEFUL_SET.read_text())["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
async def test_probe_is_answered(probe: str, http_address: str) -> None:
    """Each probe of the manifest is answered with 200 by a node that serves."""
    url = f"http://{http_address}{container()[probe]['httpGet']['path']}"
    async with aiohttp.ClientSession() as session:
        await until(lambda: answers(session, url))
