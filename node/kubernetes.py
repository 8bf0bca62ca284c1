"""Asks the Kubernetes API server for the node's own StatefulSet: one `get`, which needs one permission.

The token and the certificates of the service account are read again for each request, since they are rotated.
"""

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from .clock import Clock
from .ending import Ending, EndingUnknown, MalformedAnswer, StatefulSet, decide, parse_stateful_set

TRY_S_MAX = 3.0
ASK_S_MAX = 8.0
"""All tries together. Longer rides out more of an API server's restart; a restart of this node waits for it."""
PAUSE_S_MIN = 0.25
PAUSE_S_MAX = 2.0
ANSWER_BYTES_MAX = 4 * 1024**2
"""More than etcd stores of one object."""
TOKEN_BYTES_MAX = 64 * 1024


class ApiUnreachable(EndingUnknown):
    """No answer, or one that another try may better: the server, or the way to it, is out of order."""


class ApiRefused(EndingUnknown):
    """The server answered that it will not tell. `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AccountUnreadable(EndingUnknown):
    """The service account's files are missing or can't be read."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The files that the kubelet puts into a pod, in `folder`: `token`, `ca.crt`, `namespace`."""

    folder: Path

    def token(self) -> str:
        """Raises AccountUnreadable."""
        return self._read("token")

    def namespace(self) -> str:
        """Raises AccountUnreadable."""
        return self._read("namespace")

    def certificates(self) -> ssl.SSLContext:
        """Trusts the API server's authority, and nobody else's. Raises AccountUnreadable.

        Not as strictly as Python 3.13 would: authorities of clusters are in use that lack the key identifiers of
        RFC 5280, and a node that trusts none of them could never leave.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        except (OSError, ssl.SSLError) as error:
            raise self._unreadable("ca.crt", error) from error
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def _read(self, file: str) -> str:
        try:
            text = (self.folder / file).read_bytes()[:TOKEN_BYTES_MAX].decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(file, error) from error
        if not text or not text.isprintable():
            raise AccountUnreadable(f"{self.folder / file} holds no {file}")
        return text

    def _unreadable(self, file: str, error: OSError | ValueError) -> AccountUnreadable:
        return AccountUnreadable(f"{self.folder / file} can't be read: {error}")


class StatefulSetApi:
    """One StatefulSet as the API server at `api` (`https://host:port`) tells of it."""

    def __init__(
        self, api: str, account: ServiceAccount, name: str, clock: Clock, *, ask_s_max: float = ASK_S_MAX
    ) -> None:
        self._api = api.rstrip("/")
        self._account = account
        self._name = name
        self._clock = clock
        self._ask_s_max = ask_s_max

    async def read(self) -> StatefulSet:
        """What it is now: the server reads it by a quorum. Raises EndingUnknown, at the latest after `ask_s_max`."""
        last = ApiUnreachable(f"{self._api} did not answer within {self._ask_s_max:g} s")
        try:
            async with asyncio.timeout(self._ask_s_max):
                pause_s = PAUSE_S_MIN
                while True:
                    try:
                        return await self._read_once()
                    except ApiUnreachable as error:
                        last = error
                    await self._clock.sleep(pause_s)
                    pause_s = min(PAUSE_S_MAX, pause_s * 2)
        except TimeoutError as error:
            raise last from error

    async def _read_once(self) -> StatefulSet:
        namespace = self._account.namespace()
        path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets/{self._name}"
        return parse_stateful_set(await self._get(path), namespace, self._name)

    async def _get(self, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {self._account.token()}", "Accept": "application/json"}
        tls = self._account.certificates() if self._api.startswith("https:") else False
        connector, timeout = TCPConnector(ssl=tls, force_close=True), ClientTimeout(total=TRY_S_MAX)
        try:
            async with (
                ClientSession(connector=connector, cookie_jar=DummyCookieJar(), timeout=timeout) as session,
                session.get(self._api + path, headers=headers, allow_redirects=False) as response,
            ):
                check_status(response.status, path)
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > ANSWER_BYTES_MAX:
                        raise MalformedAnswer(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
                return bytes(body)
        except (ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"{self._api} can't be asked: {type(error).__name__} {error}".rstrip()) from error


def check_status(status: int, path: str) -> None:
    """Raises ApiUnreachable where another try may help (a token may just have been rotated), ApiRefused elsewhere."""
    if status in (401, 408, 429) or status >= 500:
        raise ApiUnreachable(f"the API server answered {status} to GET {path}")
    if status != 200:
        hint = {403: ": may the service account `get` this StatefulSet?", 404: ": there is none of this name"}
        raise ApiRefused(status, f"the API server answered {status} to GET {path}{hint.get(status, '')}")


class KubernetesPolicy:
    """What a stop of this pod means, by the number of pods that its StatefulSet wants: `StopPolicy` for a node."""

    def __init__(self, ordinal: int, api: StatefulSetApi) -> None:
        self._ordinal = ordinal
        self._api = api

    async def ask(self) -> Ending:
        return decide(self._ordinal, await self._api.read())
