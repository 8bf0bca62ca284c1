"""Settings: what a node accepts, who wins, and what is said of a wrong one."""

import inspect
import io
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import structlog

from ringhold.api.limits import Limits
from ringhold.node.cli.serve import serve
from ringhold.node.cli.settings import load_config
from ringhold.node.config import ConfigError, NodeConfig, parse_address
from ringhold.node.logs import configure_logs, get_logger


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("RINGHOLD_", "KUBERNETES_"))]:
        monkeypatch.delenv(name)


def toml(folder: Path, text: str) -> Path:
    path = folder / "ringhold.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("node-1.ringhold.svc:1", ("node-1.ringhold.svc", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_address(text: str, address: tuple[str, int]) -> None:
    """An address is host:port or [v6]:port."""
    assert parse_address(text, "grpc") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":50051",
        "host:",
        "host:0",
        "host:65536",
        "host:٣",
        "::1:50051",
        "[10.0.0.1]:1",
        "[x]:1",
        "a b:1",
        "h:1:2",
        "http://h:1",
        "h:+1",
        "h:123456",
        "-h:1",
    ],
)
def test_bad_address(text: str) -> None:
    """Anything else is refused, with the text in the message."""
    with pytest.raises(ConfigError) as caught:
        parse_address(text, "grpc")
    assert repr(text) in str(caught.value)
    assert caught.value.field == "grpc"


def test_defaults(tmp_path: Path) -> None:
    """With a data directory alone, a node listens on loopback and advertises where it listens."""
    config = load_config({"data_dir": str(tmp_path)}, None)
    assert config == NodeConfig(tmp_path)
    assert (config.grpc_address, config.http_address) == ("127.0.0.1:50051", "127.0.0.1:50052")
    assert config.limits == Limits()


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags win over the environment, which wins over the file, which wins over the defaults."""
    file = toml(tmp_path, 'data_dir = "d"\nname = "file"\nzone = "file"\nhost = "file"')
    monkeypatch.setenv("RINGHOLD_NAME", "environment")
    monkeypatch.setenv("RINGHOLD_ZONE", "environment")
    config = load_config({"name": "flag"}, file)
    assert (config.name, config.zone, config.host, config.weight) == ("flag", "environment", "file", 1)


def test_file_from_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RINGHOLD_CONFIG names the file, unless a flag does."""
    monkeypatch.setenv("RINGHOLD_CONFIG", str(toml(tmp_path, 'data_dir = "from-file"')))
    assert load_config({}, None).data_dir == Path("from-file")


def test_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are written with commas in flags and environment, as lists in the file; an empty variable is none."""
    file = toml(tmp_path, 'data_dir = "d"\nseeds = ["a:1", "b:2"]\nexpect = 2\ndrain_timeout_s = 1.5')
    monkeypatch.setenv("RINGHOLD_NAME", "")
    assert load_config({}, file).seeds == ("a:1", "b:2")
    assert load_config({}, file).drain_timeout_s == 1.5
    assert load_config({}, file).name is None
    monkeypatch.setenv("RINGHOLD_SEEDS", "c:3, d:4,")
    assert load_config({}, file).seeds == ("c:3", "d:4")
    assert load_config({"seeds": "e:5", "weight": "7"}, file) == NodeConfig(
        Path("d"), seeds=("e:5",), expect=2, drain_timeout_s=1.5, weight=7
    )


def test_limits_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single limits are set in the file or the environment; the others keep their defaults."""
    file = toml(tmp_path, 'data_dir = "d"\n[limits]\nkey_bytes_max = 10\nindex_entries_max = 5')
    monkeypatch.setenv("RINGHOLD_LIMITS__KEY_BYTES_MAX", "20")
    assert load_config({}, file).limits == Limits(key_bytes_max=20, index_entries_max=5)


@pytest.mark.parametrize("setting", [field.name for field in fields(NodeConfig) if field.name != "limits"])
def test_every_setting_has_a_variable(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field of NodeConfig is read from its variable."""
    values = {"weight": "3", "expect": "1", "partitions": "128", "drain_timeout_s": "3", "engine": "rocksdb"}
    values |= {"replication_factor": "5", "reads": "quorum"}
    values |= {
        "log_level": "debug",
        "log_format": "json",
        "seeds": "s:1",
        "row_cache_bytes": "0",
        "snapshot_bytes_per_s_max": "0",
    }
    values |= {"disk_reserve_bytes": "5"}
    values |= {"log_level": "debug", "log_format": "json", "seeds": "s:1", "row_cache_bytes": "0"}
    values |= {"disk_reserve_bytes": "5", "scrub_bytes_per_s": "0"}
    values |= {"on_sigterm": "leave", "kubernetes_api": "https://10.0.0.1:443"}
    values |= dict.fromkeys(("grpc", "http", "advertise_grpc", "advertise_http"), "h:1")
    value = values.get(setting, "text")
    monkeypatch.setenv(f"RINGHOLD_{setting.upper()}", value)
    flags = {} if setting == "data_dir" else {"data_dir": str(tmp_path)}
    found = getattr(load_config(flags, None), setting)
    assert found == ("s:1",) if setting == "seeds" else found == type(found)(value)


def test_a_pod_is_told_of_the_api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet's variables name it, for those that ask it; a setting wins."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    flags = {"data_dir": str(tmp_path), "name": "r-3"}
    assert load_config(flags, None).kubernetes_api is None
    flags["on_sigterm"] = "kubernetes"
    assert load_config(flags, None).kubernetes_api == "https://10.0.0.1:6443"
    monkeypatch.setenv("RINGHOLD_KUBERNETES_API", "http://127.0.0.1:8001/")
    assert load_config(flags, None).kubernetes_api == "http://127.0.0.1:8001/"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"grpc": "x"}, "--grpc: 'x' is not an address: write host:port or [v6]:port"),
        ({"weight": "two"}, "--weight: 'two' should be a valid integer, unable to parse string as an integer"),
        ({"weight": "0"}, "--weight: 0 is not between 1 and 256"),
        ({"engine": "leveldb"}, "--engine: 'leveldb' is unknown: choose sqlite or rocksdb"),
        ({"partitions": "63"}, "--partitions: 63 is not a power of two between 1 and 65536"),
        ({"replication_factor": "0"}, "--replication-factor: 0 is not between 1 and 9"),
        ({"reads": "dirty"}, "--reads: 'dirty' is unknown: choose lease or quorum"),
        ({"replication_factor": "10"}, "--replication-factor: 10 is not between 1 and 9"),
        ({"log_format": "xml"}, "--log-format: 'xml' is unknown: choose text or json"),
        ({"http": "127.0.0.1:50051"}, "--http: gRPC and HTTP can't both listen on 127.0.0.1:50051"),
        ({"advertise_http": "[::]:1"}, "--advertise-http: [::]:1 can't be called by others: give an address of this"),
        ({"grpc": "0.0.0.0:1"}, "--advertise-grpc: the node listens on 0.0.0.0:1, which others can't call: say with"),
        ({"on_sigterm": "run"}, "--on-sigterm: 'run' is unknown: choose restart, leave or kubernetes"),
        ({"on_sigterm": "kubernetes"}, "--on-sigterm: kubernetes needs --name to be that of the pod, NAME-ORDINAL; it"),
        (
            {"on_sigterm": "kubernetes", "name": "r-0"},
            "--on-sigterm: kubernetes works in a pod only: KUBERNETES_SERVICE_HOST is not set",
        ),
        ({"kubernetes_api": "10.0.0.1:443"}, "--kubernetes-api: '10.0.0.1:443' is not https://host:port"),
        ({"kubernetes_api": "https://h"}, "--kubernetes-api: 'h' is not an address: write host:port"),
        ({"kubernetes_api": "http://10.0.0.1:80"}, "--kubernetes-api: http://10.0.0.1:80 would send the token unprot"),
        ({"expect": "3"}, "--expect: 3 nodes that form a cluster together need seeds"),
        ({"expect": "0"}, "--expect: 0 is not between 1 and 1000"),
        ({"seeds": "a:1,b:1,a:1"}, "--seeds: a:1 is given twice"),
        ({"cluster": ""}, "--cluster: '' is not a name"),
        ({"name": "a b"}, "--name: 'a b' is not a name"),
    ],
)
def test_wrong_flag(flags: dict[str, str], sentence: str, tmp_path: Path) -> None:
    """A wrong flag gives one sentence that names it."""
    with pytest.raises(ConfigError) as caught:
        load_config({"data_dir": str(tmp_path), **flags}, None)
    assert str(caught.value).startswith(sentence)


def test_origin_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong variable is named as such, also within the limits."""
    monkeypatch.setenv("RINGHOLD_LIMITS__KEY_BYTES_MAX", "-5")
    with pytest.raises(ConfigError, match=r"^RINGHOLD_LIMITS__KEY_BYTES_MAX: '-5' should be greater than 0$"):
        load_config({"data_dir": str(tmp_path)}, None)
    monkeypatch.setenv("RINGHOLD_LIMITS__KEY_BYTES_MAX", "5")
    monkeypatch.setenv("RINGHOLD_LIMITS__PAGE_BYTES_MAX", "5000000")
    with pytest.raises(ConfigError, match=r"^RINGHOLD_LIMITS__PAGE_BYTES_MAX: 5000000 bytes don't fit into a message"):
        load_config({"data_dir": str(tmp_path)}, None)


def test_origin_of_file(tmp_path: Path) -> None:
    """A wrong value in the file is named by file and key; a value that is overridden is not judged."""
    file = toml(tmp_path, 'data_dir = "d"\nweight = "x"')
    with pytest.raises(ConfigError) as caught:
        load_config({}, file)
    assert str(caught.value).startswith(f"{file}: weight: 'x' should be a valid integer")
    assert load_config({"weight": "2"}, file).weight == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wieght = 1", "wieght is not a setting, did you mean weight?"),
        ("[limits]\nkey_bytes = 1", "limits.key_bytes is not a setting, did you mean key_bytes_max?"),
        ("[other]\nx = 1", "other is not a setting"),
    ],
)
def test_unknown_key(text: str, sentence: str, tmp_path: Path) -> None:
    """A key that is no setting is an error, with what was probably meant."""
    file = toml(tmp_path, f'data_dir = "d"\n{text}')
    with pytest.raises(ConfigError) as caught:
        load_config({}, file)
    assert str(caught.value) == f"{file}: {sentence}"


@pytest.mark.parametrize("name", ["RINGHOLD_PARTITION", "RINGHOLD_LIMITS", "RINGHOLD_LIMITS__KEYS", "RINGHOLD_X"])
def test_unknown_variable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RINGHOLD_ variable that is no setting is an error."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=f"^{name} is not a setting"):
        load_config({"data_dir": str(tmp_path)}, None)


@pytest.mark.parametrize(
    "name",
    [
        "RINGHOLD_SERVICE_HOST",
        "RINGHOLD_SERVICE_PORT_GRPC",
        "RINGHOLD_PORT",
        "RINGHOLD_PORT_50051_TCP_ADDR",
        "RINGHOLD_CLIENT_SERVICE_HOST",
        "RINGHOLD_CLIENT_PORT_50051_TCP",
        "RINGHOLD_ENDPOINTS",
    ],
)
def test_foreign_variable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes sets for a Service named ringhold, and what the client reads, is no error."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:50051")
    assert load_config({"data_dir": str(tmp_path)}, None) == NodeConfig(tmp_path)


def test_no_data_dir() -> None:
    """Without a data directory the sentence says the three ways to give one."""
    with pytest.raises(ConfigError, match=r"^give --data-dir, RINGHOLD_DATA_DIR or data_dir in the file$"):
        load_config({}, None)


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"a = ", "is not TOML"), (b"\xff", "is not TOML"), (None, "can't be")]
)
def test_unreadable_file(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    """A file that is missing or no TOML is named."""
    file = tmp_path / "f.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config({}, file)
    assert str(caught.value).startswith(f"{file} {sentence}")


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_text_log(logs: io.StringIO) -> None:
    """In text, an event is one line: time, level, component, event, figures; odd values are quoted."""
    configure_logs("info", "text", logs)
    logger = get_logger("gossip")
    logger.debug("unheard")
    logger.info("ready", grpc="h:1", words="two words\nand a line", empty="", count=3)
    (line,) = logs.getvalue().splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest == 'info    gossip ready grpc=h:1 words="two words\\nand a line" empty="" count=3'


def test_json_log(logs: io.StringIO) -> None:
    """In JSON, an event is one object on one line, tracebacks and bytes included."""
    configure_logs("info", "json", logs)
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        get_logger("storage").exception("failed", key=b"\xff")
    (line,) = logs.getvalue().splitlines()
    event = json.loads(line)
    assert (event["level"], event["component"], event["event"]) == ("error", "storage", "failed")
    assert "broken\nin two" in event["exception"]
    assert event["key"] == "b'\\xff'"


def test_library_log(logs: io.StringIO) -> None:
    """What libraries log comes out in the same form, a message of two lines in one."""
    configure_logs("warning", "text", logs)
    logging.getLogger("aiohttp.server").warning("bad %s\nbody", "request")
    logging.getLogger("aiohttp.server").info("unheard")
    (line,) = logs.getvalue().splitlines()
    assert line.split(" ", 1)[1] == "warning aiohttp.server bad request body"


def test_documented() -> None:
    """docs/configuration.md names every setting, its variable, and every limit with its default."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()
    for setting in fields(NodeConfig):
        if setting.name != "limits":
            assert f"| `{setting.name}` |" in page
            assert f"`RINGHOLD_{setting.name.upper()}`" in page
    for limit in fields(Limits):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{limit.name}`")]
        assert row.endswith(f"| {limit.default:,g} |" if isinstance(limit.default, float) else f"| {limit.default:,} |")


def test_flags_of_serve() -> None:
    """Every setting but those without a flag in docs/configuration.md is a flag of `serve`."""
    settings = {field.name for field in fields(NodeConfig)} - {
        "limits",
        "drain_timeout_s",
        "row_cache_bytes",
        "snapshot_bytes_per_s_max",
        "scrub_bytes_per_s",
        "stateful_set",
        "kubernetes_api",
        "kubernetes_account",
    }
    assert set(inspect.signature(serve).parameters) == settings | {"config", "context"}
