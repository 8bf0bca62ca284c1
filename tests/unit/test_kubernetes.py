"""Asking the API server, over real HTTP: what it says is believed, and everything else is an error with a name."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import has_openssl, make_certificates
from support.fake_kubernetes import (
    FakeKubernetes,
    Misbehaviour,
    body,
    broken_off,
    fake_kubernetes,
    no_answer,
    redirected,
    status,
)
from support.nodes import free_ports

from ringhold.node.clock import BootClock
from ringhold.node.ending import Ending, EndingUnknown, MalformedAnswer, StatefulSet
from ringhold.node.kubernetes import (
    ANSWER_BYTES_MAX,
    AccountUnreadable,
    ApiRefused,
    ApiUnreachable,
    KubernetesPolicy,
    ServiceAccount,
    StatefulSetApi,
)

PATH = "/apis/apps/v1/namespaces/store/statefulsets/ringhold"
PATIENCE_S = 5.0
NO_PATIENCE_S = 0.2


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with fake_kubernetes(tmp_path / "account") as server:
        server.scale(3)
        yield server


def api_of(fake: FakeKubernetes, ask_s_max: float = PATIENCE_S) -> StatefulSetApi:
    return StatefulSetApi(fake.url, ServiceAccount(fake.account), "ringhold", BootClock(), ask_s_max=ask_s_max)


async def test_the_set_is_read(fake: FakeKubernetes) -> None:
    """One GET of the very set, in the namespace of the account, with its token; each time anew."""
    api = api_of(fake)
    assert await api.read() == StatefulSet(3)
    fake.scale(7, start=2)
    assert await api.read() == StatefulSet(7, 2)
    fake.delete()
    assert await api.read() == StatefulSet(7, 2, is_deleted=True)
    assert fake.paths == [PATH] * 3


async def test_the_pod_knows_what_its_stop_means(fake: FakeKubernetes) -> None:
    """The answer changes with the number of pods that are wanted."""
    policy = KubernetesPolicy(3, api_of(fake))
    assert await policy.ask() is Ending.LEAVE
    fake.scale(4)
    assert await policy.ask() is Ending.RESTART
    fake.scale(0)
    assert await policy.ask() is Ending.STOP


async def test_a_rotated_token_is_used(fake: FakeKubernetes) -> None:
    """The token is read again for each request."""
    api = api_of(fake)
    await api.read()
    fake.rotate_token("the.next.one")
    assert await api.read() == StatefulSet(3)
    assert len(fake.paths) == 2


PASSING: list[Misbehaviour] = [status(500), status(503), status(429), status(401), broken_off]


@pytest.mark.parametrize("misbehaviour", PASSING, ids=["500", "503", "429", "401", "broken off"])
async def test_what_may_pass_is_tried_again(fake: FakeKubernetes, misbehaviour: Misbehaviour) -> None:
    """An API server that restarts, has too much to do, or does not know the newest token yet, is asked again."""
    fake.misbehaviours = [misbehaviour, misbehaviour]
    assert await api_of(fake).read() == StatefulSet(3)
    assert len(fake.paths) == 3


@pytest.mark.parametrize("misbehaviour", [*PASSING, no_answer])
async def test_what_does_not_pass_is_given_up(fake: FakeKubernetes, misbehaviour: Misbehaviour) -> None:
    """After a time nobody can say what the stop means; the wait has an end, whatever the server does."""
    fake.always = misbehaviour
    with pytest.raises(ApiUnreachable):
        await api_of(fake, NO_PATIENCE_S).read()


async def test_a_server_that_is_not_there_is_named(fake: FakeKubernetes) -> None:
    """Nobody listens: the error says who was asked."""
    fake.url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ApiUnreachable, match=f"{fake.url} can't be asked: ClientConnectorError"):
        await api_of(fake, NO_PATIENCE_S).read()


async def test_a_missing_permission_is_said_at_once(fake: FakeKubernetes) -> None:
    """403 does not pass: the error says which permission is missing, or that there is no such set."""
    fake.permitted.clear()
    with pytest.raises(ApiRefused, match=r"answered 403 to GET .*: may the service account `get`") as refused:
        await api_of(fake).read()
    assert refused.value.status == 403
    fake.permitted, fake.sets = {"ringhold"}, {}
    with pytest.raises(ApiRefused, match=r"answered 404 to GET .*: there is none of this name"):
        await api_of(fake).read()
    assert len(fake.paths) == 2


async def test_the_token_follows_no_redirect(fake: FakeKubernetes) -> None:
    """Whoever answers with another place does not get the token sent there."""
    fake.misbehaviours = [redirected]
    with pytest.raises(ApiRefused, match="answered 302"):
        await api_of(fake).read()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<html>", "the answer is not JSON"),
        (b"{}", "the answer has no metadata"),
        (b" " * (ANSWER_BYTES_MAX + 1), "the answer has more than 4194304 bytes"),
    ],
    ids=["html", "empty", "large"],
)
async def test_a_malformed_answer_is_said_at_once(fake: FakeKubernetes, content: bytes, sentence: str) -> None:
    """Another try would get the same; and no answer is too large to be refused."""
    fake.misbehaviours = [body(content)]
    with pytest.raises(MalformedAnswer, match=sentence):
        await api_of(fake).read()
    assert len(fake.paths) == 1


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"a\nb", b"\xff"], ids=["none", "empty", "blank", "lines", "bytes"]
)
@pytest.mark.parametrize("file", ["token", "namespace"])
async def test_an_account_without_its_files_is_named(fake: FakeKubernetes, file: str, content: bytes | None) -> None:
    """A pod without a token, or with half of one, says which file it is; nothing is sent."""
    if content is None:
        (fake.account / file).unlink()
    else:
        (fake.account / file).write_bytes(content)
    with pytest.raises(AccountUnreadable, match=str(fake.account / file)):
        await api_of(fake).read()
    assert fake.paths == []


needs_openssl = pytest.mark.skipif(not has_openssl(), reason="needs the command openssl")


@needs_openssl
async def test_tls_trusts_the_authority_of_the_account(tmp_path: Path) -> None:
    """Over TLS, with an authority as old clusters have: without key identifiers."""
    with fake_kubernetes(tmp_path / "account", make_certificates(tmp_path / "certificates")) as fake:
        fake.scale(5)
        assert await api_of(fake).read() == StatefulSet(5)


@needs_openssl
async def test_tls_shows_the_token_to_nobody_else(tmp_path: Path) -> None:
    """A server that another authority vouches for is not asked anything; without an authority nobody is."""
    with fake_kubernetes(tmp_path / "account", make_certificates(tmp_path / "certificates")) as fake:
        other = make_certificates(tmp_path / "other")
        (fake.account / "ca.crt").write_bytes(other.authority.read_bytes())
        with pytest.raises(ApiUnreachable, match="certificate verify failed"):
            await api_of(fake, NO_PATIENCE_S).read()
        for content in (b"", b"no certificate"):
            (fake.account / "ca.crt").write_bytes(content)
            with pytest.raises(AccountUnreadable, match=r"ca\.crt can't be read"):
                await api_of(fake).read()
        (fake.account / "ca.crt").unlink()
        with pytest.raises(AccountUnreadable, match=r"ca\.crt can't be read"):
            await api_of(fake).read()
        assert fake.paths == []


@needs_openssl
def test_tls_gives_up_only_the_strictness_of_identifiers(tmp_path: Path) -> None:
    """Names and chains are checked as ever."""
    (tmp_path / "ca.crt").write_bytes(make_certificates(tmp_path / "certificates").authority.read_bytes())
    context = ServiceAccount(tmp_path).certificates()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_every_error_means_that_nobody_knows() -> None:
    """Whoever asks has one kind of error to treat, and treats it as no order to leave."""
    for error in (ApiUnreachable, ApiRefused, AccountUnreadable, MalformedAnswer):
        assert issubclass(error, EndingUnknown)
