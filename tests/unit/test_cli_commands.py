"""The data and cluster commands, against a cluster of fakes: what they send, print and exit with."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import Ended, Ringhold, command_line
from support.fake_server import FakeCluster, Fault, fake_cluster
from support.nodes import wait_until

from ringhold.api.errors import error_for
from ringhold.node.cli import records
from ringhold.node.cli.failure import shell_word


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with fake_cluster() as running:
        yield running


@pytest.fixture
def ringhold(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Ringhold:
    return command_line(cluster, monkeypatch, capsysbinary)


def test_set_and_get(ringhold: Ringhold) -> None:
    """What was set is got, in each of the three forms; plain is the value's bytes alone."""
    assert ringhold("set", "k", "v", "--index", "city=Paris", "--index", "tag=a", "--index", "tag=b") == Ended(
        0, b"stored k as version 1\n", ""
    )
    assert ringhold("get", "k", "-o", "plain") == Ended(0, b"v", "")
    assert json.loads(ringhold("get", "k", "-o", "json").out) == {
        "key": "k",
        "value": "v",
        "version": 1,
        "create_version": 1,
        "indexes": {"city": ["Paris"], "tag": ["a", "b"]},
    }
    table = ringhold("get", "k").out.decode()
    assert [line.split() for line in table.splitlines()] == [
        ["key", "k"],
        ["value", "v"],
        ["version", "1"],
        ["index", "city", "Paris"],
        ["index", "tag", "a,", "b"],
    ]


def test_stale(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """With --stale the answer says how far behind it may be, in table and JSON; plain stays the value's bytes."""
    ringhold("set", "k", "v", "--index", "name=x")
    assert ringhold("get", "k", "--stale").out.endswith(b"at most 40 ms behind\n")
    assert ringhold("get", "k", "--stale", "-o", "plain").out == b"v"
    assert ringhold("find", "name", "x", "--stale").out.endswith(b"\nstale: at most 40 ms behind\n")
    for command in (("get", "k"), ("find", "name", "x", "--values")):
        for behind_ms in (40, None):
            cluster.store.behind_ms = behind_ms
            answer = json.loads(ringhold(*command, "--stale", "-o", "json").out)
            assert (answer["stale"], answer["behind_ms"]) == (True, behind_ms)
        assert "stale" not in json.loads(ringhold(*command, "-o", "json").out)
    assert "nobody knows how far behind" in ringhold("get", "k", "--stale").out.decode()
    assert ringhold("get", "none", "--stale").code == 3


def test_bytes(ringhold: Ringhold, tmp_path: Path) -> None:
    """Values of any bytes come from stdin or a file and go out unchanged; in JSON they are base64."""
    value = bytes(range(256))
    file = tmp_path / "value"
    file.write_bytes(value)
    assert ringhold("set", "a", "-", stdin=value).code == 0
    assert ringhold("set", "b", f"@{file}").code == 0
    assert ringhold("set", "empty", "").code == 0
    assert ringhold("get", "a", "-o", "plain").out == value
    assert ringhold("get", "b", "-o", "plain").out == value
    assert ringhold("get", "empty", "-o", "plain").out == b""
    assert list(json.loads(ringhold("get", "a", "-o", "json").out)["value"]) == ["base64"]
    assert b"\x1b" not in ringhold("get", "a").out


def test_key_of_any_bytes(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """A key that is no text reaches the node as the shell gave it."""
    assert ringhold("set", os.fsdecode(b"\xff\x00"[:1]), "v").code == 0
    assert list(cluster.store.rows) == [b"\xff"]


def test_value_with_dash(ringhold: Ringhold) -> None:
    """After -- nothing is an option."""
    assert ringhold("set", "--", "k", "-5").code == 0
    assert ringhold("get", "k", "-o", "plain").out == b"-5"


def test_delete(ringhold: Ringhold) -> None:
    """Removing says whether there was anything; an absent key is no failure."""
    ringhold("set", "k", "v")
    assert ringhold("delete", "k") == Ended(0, b"removed k\n", "")
    assert ringhold("delete", "k") == Ended(0, b"there was no key k\n", "")
    assert json.loads(ringhold("delete", "k", "-o", "json").out) == {"key": "k", "existed": False, "version": 0}
    assert ringhold("get", "k").code == 3


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        (["b"], ["2"]),
        (["--prefix", "a"], ["1", "3"]),
        (["--from", "ab"], ["3", "2"]),
        (["--from", "a", "--to", "b"], ["1", "3"]),
        (["--prefix", "", "--desc"], ["2", "3", "1"]),
        (["--prefix", "", "--limit", "1"], ["1"]),
        (["nothing"], []),
    ],
)
def test_find(query: list[str], keys: list[str], ringhold: Ringhold) -> None:
    """A query by value, prefix or range gives keys in the index's order."""
    for key, value in (("1", "aa"), ("2", "b"), ("3", "ab")):
        ringhold("set", key, f"value {key}", "--index", f"name={value}")
    assert ringhold("find", "name", *query, "-o", "plain").out.decode().split() == keys
    with_values = ringhold("find", "name", *query, "--values", "-o", "plain").out.decode()
    assert with_values == "".join(f"{key}\tvalue {key}\n" for key in keys)
    objects = [json.loads(line) for line in ringhold("find", "name", *query, "--values", "-o", "json").out.splitlines()]
    assert [found["record"]["value"] for found in objects] == [f"value {key}" for key in keys]
    table = ringhold("find", "name", *query).out.decode()
    assert f"{len(keys)} found" in table
    assert all(key in table for key in keys)


@pytest.mark.parametrize("query", [[], ["a", "--prefix", "b"], ["--prefix", "a", "--from", "b"], ["a", "--to", "b"]])
def test_find_one_way(query: list[str], ringhold: Ringhold) -> None:
    """A query goes by value, prefix or range: exactly one of them."""
    ended = ringhold("find", "name", *query)
    assert (ended.code, ended.err) == (
        2,
        "ringhold: find takes a VALUE, or --prefix, or --from and --to: one of them\n",
    )


def test_long_table(ringhold: Ringhold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is bounded and says when it is cut."""
    monkeypatch.setattr(records, "TABLE_ROWS_MAX", 2)
    for key in ("1", "2", "3"):
        ringhold("set", key, "v", "--index", "name=x")
    ended = ringhold("find", "name", "x")
    assert b"2 found" in ended.out
    assert "more than 2 matches" in ended.err
    assert ringhold("find", "name", "x", "--limit", "2").err == ""


@pytest.mark.parametrize(
    ("reason", "code"),
    [("VALUE_TOO_LARGE", 2), ("VERSION_MISMATCH", 1), ("PERMISSION_DENIED", 1), ("NO_HEALTHY_REPLICA", 1)],
)
def test_refusals(reason: str, code: int, ringhold: Ringhold, cluster: FakeCluster) -> None:
    """A node's refusal is one sentence on stderr, and nothing on stdout."""
    cluster.faults.append(Fault("Set", error=error_for(reason, "no, not so"), times=99))
    assert ringhold("set", "k", "v") == Ended(code, b"", "ringhold: no, not so\n")


def test_not_found(ringhold: Ringhold) -> None:
    """A missing key has an exit code of its own."""
    ended = ringhold("get", "missing")
    assert (ended.code, ended.out) == (3, b"")
    assert ended.err.startswith("ringhold: ")
    assert ended.err.count("\n") == 1


def test_unavailable(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Without a node that answers, the exit code says that a retry is safe."""
    for node in cluster.nodes:
        node.stop()
    ended = ringhold("set", "k", "v", "--timeout", "0.3")
    assert (ended.code, ended.err.count("\n")) == (4, 1)


def test_in_doubt(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """A write whose fate is unknown has an exit code of its own, and its request_id is shown."""
    cluster.faults.append(Fault("Set", hangs=True, times=99))
    ended = ringhold("set", "k", "v", "--timeout", "0.3")
    assert ended.code == 5
    assert "ringhold resolve --request-id " in ended.err


def test_resolve(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """The command line that a doubt names settles it, in each of the three forms, and as often as one likes."""
    cluster.faults.append(Fault("Set", times=1_000, applied=True))
    doubt = ringhold("set", "a  key", "v", "--timeout", "0.3")
    cluster.faults.clear()
    _, named = doubt.err.split("to settle it: ringhold ")
    assert named.endswith(" -- $'a\\x20\\x20key'\n")
    arguments = [*named.split()[:-1], "a  key"]
    assert ringhold(*arguments) == Ended(0, b"applied: the change of a  key has version 1\n", "")
    arguments[1:1] = ["-o", "plain"]
    assert ringhold(*arguments) == Ended(0, b"applied 1\n", "")
    other = ["resolve", "k", "--request-id", "00ff", "--anchor", str(cluster.store.log_time_ms)]
    assert json.loads(ringhold(*other, "-o", "json").out) == {"key": "k", "fate": "aborted", "changes": []}
    assert ringhold(*other).out == b"not applied: the change of k was not made, and never will be\n"
    old = ringhold("resolve", "k", "--request-id", "00ff", "--anchor", "1", "-o", "plain")
    assert old == Ended(5, b"unknown\n", "")


@pytest.mark.parametrize("key", [b"k", "K\u00f6ln".encode(), b"it's", b"$(x)\n", b"\xff\t", b"-k", b"a b", b"\\'"])
def test_a_key_may_be_pasted_into_a_shell(key: bytes) -> None:
    """The shell gives the command the very bytes of the key."""
    told = subprocess.run(["bash", "-c", f"printf '%s' {shell_word(key)}"], capture_output=True, check=True, timeout=10)
    assert told.stdout == key


def test_read_timeout(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """A read without an answer is a timeout."""
    cluster.faults.append(Fault("Get", hangs=True, times=99))
    assert ringhold("get", "k", "--timeout", "0.3").code == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get"], "Missing argument 'KEY'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["get", "k", "--frob"], "--frob"),
        (["get", "k", "--timeout", "soon"], "--timeout"),
        (["get", "k", "--timeout", "0"], "--timeout"),
        (["get", "k", "-o", "xml"], "xml"),
        (["get", "k", "--endpoints", "nowhere"], "'nowhere' is not an address"),
        (["get", "k", "--endpoints", ","], "is not an address"),
        (["set", "k", "v", "--index", "city"], "--index city: write NAME=VALUE"),
        (["resolve", "k", "--anchor", "1"], "--request-id"),
        (["resolve", "k", "--request-id", "xyz", "--anchor", "1"], "hexadecimal"),
        (["resolve", "k", "--request-id", "", "--anchor", "1"], "missing"),
        (["resolve", "k", "--request-id", "00", "--anchor", "0"], "--anchor"),
        (["import", "f.txt", "--key", "id"], "give --format jsonl or csv"),
        (["dev", "--nodes", "0"], "--nodes"),
        (["dev", "--base-port", "65535"], "need ports above 65535"),
        (["serve", "--frob"], "--frob"),
    ],
)
def test_usage(arguments: list[str], words: str, ringhold: Ringhold) -> None:
    """A wrong command line is one sentence on stderr and exit code 2."""
    ended = ringhold(*arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, b"", 1)
    assert ended.err.startswith("ringhold: ")
    assert words in ended.err


def test_missing_value_file(ringhold: Ringhold, tmp_path: Path) -> None:
    """A file that can't be read is named."""
    ended = ringhold("set", "k", f"@{tmp_path}/none")
    assert ended == Ended(1, b"", f"ringhold: {tmp_path}/none can't be read: No such file or directory\n")
    assert ringhold("set", "k", f"@{tmp_path}").code == 1


def test_status(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """The nodes are shown by name, with state, liveness and load."""
    table = ringhold("status").out.decode()
    for word in ("cluster fake", "node-1", "node-3", "NORMAL", "ALIVE", cluster.endpoints[2]):
        assert word in table
    status = json.loads(ringhold("status", "-o", "json").out)
    assert [node["name"] for node in status["nodes"]] == ["node-1", "node-2", "node-3"]
    assert status["nodes"][0]["partitions_led"] == 3
    plain = ringhold("status", "-o", "plain").out.decode().splitlines()
    assert plain[0].split("\t") == ["node-1", "NORMAL", "ALIVE", cluster.endpoints[0], "3", "0", "0"]


def test_ring(ringhold: Ringhold) -> None:
    """Each partition is shown with its leader; the table counts them by node."""
    assert ringhold("ring", "-o", "plain").out.decode().splitlines()[:2] == ["0\tnode-1\tnode-1", "1\tnode-2\tnode-2"]
    assert len(json.loads(ringhold("ring", "-o", "json").out)["partitions"]) == 8
    table = ringhold("ring").out.decode()
    assert table.count("●") == 8 + 1
    assert ["led", "3", "3", "2"] in [line.split() for line in table.splitlines()]


def test_explain(ringhold: Ringhold) -> None:
    """A key is shown with its place, and with what is stored; an absent one with its place."""
    ringhold("set", "k", "value", "--index", "city=Paris")
    explained = json.loads(ringhold("explain", "k", "-o", "json").out)
    assert explained["exists"] is True
    assert explained["value_bytes"] == 5
    assert explained["indexes"] == {"city": ["Paris"]}
    lines = [line.split("\t") for line in ringhold("explain", "k", "-o", "plain").out.decode().splitlines()]
    assert ["index", "city=Paris"] in lines
    assert ["leader", explained["leader"]] in lines
    assert "exists" in ringhold("explain", "absent").out.decode()


def test_import(ringhold: Ringhold, cluster: FakeCluster, tmp_path: Path) -> None:
    """Good rows become records, bad lines are named and counted, and the exit code tells."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a", "tags": ["x", "y"]}\nnonsense\n{"id": 2}\n{"no": "id"}\n')
    ended = ringhold("import", str(file), "--key", "id", "--index", "tags", "-o", "json")
    assert ended.code == 1
    assert json.loads(ended.out) == {"imported": 2, "bad_lines": 2}
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["line 2", "line 4"]
    assert cluster.store.rows[b"a"].value == b'{"id": "a", "tags": ["x", "y"]}'
    assert [entry.value for entry in cluster.store.rows[b"a"].indexes] == [b"x", b"y"]
    assert sorted(cluster.store.rows) == [b"2", b"a"]


def test_import_csv(ringhold: Ringhold, cluster: FakeCluster, tmp_path: Path) -> None:
    """A CSV row is stored as a JSON object; many rows go in batches."""
    file = tmp_path / "rows.CSV"
    file.write_text("id,city\n" + "".join(f"{number},c{number % 3}\n" for number in range(1200)))
    ended = ringhold("import", str(file), "--key", "id", "--index", "city")
    assert ended == Ended(0, b"imported 1200 records, 0 bad lines\n", "")
    assert json.loads(cluster.store.rows[b"7"].value) == {"id": "7", "city": "c1"}
    assert sum(len(call.request.operations) for call in cluster.calls_of("Batch")) == 1200
    assert not cluster.calls_of("Set")


def test_import_from_stdin(ringhold: Ringhold, cluster: FakeCluster) -> None:
    """Stdin is imported when its format is given."""
    assert ringhold("import", "-", "--format", "jsonl", "--key", "id", stdin=b'{"id": 1}').code == 0
    assert list(cluster.store.rows) == [b"1"]
    assert ringhold("import", "-", "--key", "id").code == 2


def test_import_of_a_refused_record(ringhold: Ringhold, cluster: FakeCluster, tmp_path: Path) -> None:
    """A record that the cluster refuses is a bad line; those beside it are imported."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 1}\n{"id": 2}\n')
    refusal = error_for("INDEX_NAME_INVALID", "no such name")
    cluster.faults += [Fault("Batch", error=refusal, times=99), Fault("Set", error=refusal, times=1)]
    ended = ringhold("import", str(file), "--key", "id", "-o", "plain")
    assert ended == Ended(1, b"1\n", "line 1: no such name\n")
    assert list(cluster.store.rows) == [b"2"]


def test_import_stops(ringhold: Ringhold, cluster: FakeCluster, tmp_path: Path) -> None:
    """An error that is no record's fault ends the import and says how far it came."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": 1}\n')
    for node in cluster.nodes:
        node.stop()
    ended = ringhold("import", str(file), "--key", "id", "--timeout", "0.3")
    assert ended.code == 4
    assert "0 records were imported before" in ended.err


def test_help_names_every_command(ringhold: Ringhold) -> None:
    """Help goes to stdout; each command's has examples."""
    ended = ringhold("--help")
    assert ended.code == 0
    for command in [
        "set",
        "get",
        "delete",
        "resolve",
        "find",
        "import",
        "status",
        "ring",
        "explain",
        "node",
        "cluster",
        "plan",
        "scrub",
        "serve",
        "dev",
    ]:
        assert command in ended.out.decode()
        assert f"ringhold {command}" in ringhold(command, "--help").out.decode()


def test_version(ringhold: Ringhold) -> None:
    """--version gives the package's."""
    assert ringhold("--version").out.decode().split()[0] == "ringhold"


def test_imports_are_lazy(cluster: FakeCluster) -> None:
    """A client's command loads neither the node's parts nor, in plain, Rich."""
    script = (
        "import sys; from ringhold.node.cli.app import main; "
        f"main(['get', 'k', '-o', 'plain', '--endpoints', '{cluster.endpoints[0]}']); "
        "print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout.split()
    unwanted = {"aiohttp", "structlog", "pydantic_settings", "uhashring", "sqlitedict", "rich", "prometheus_client"}
    assert "grpc" in loaded
    assert not unwanted.intersection(loaded)


def test_help_is_light() -> None:
    """Help loads no grpc."""
    script = "import sys; from ringhold.node.cli.app import main; main(['--help']); print('grpc' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert ended.stdout.split()[-1] == "False"


def test_closed_pipe(cluster: FakeCluster) -> None:
    """A reader that goes away is no reason to complain."""
    script = (
        "import os, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 1); "
        f"sys.argv[1:] = ['ring', '-o', 'json', '--endpoints', '{cluster.endpoints[0]}']; "
        "from ringhold.node.cli.app import run; run()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_defect() -> None:
    """A defect is one line, too, and a failure."""
    script = "from ringhold.node.cli import app; app.main = lambda arguments: {}['defect']; app.run()"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stderr) == (1, "ringhold: a defect was met, KeyError: 'defect'\n")


def test_interrupt(cluster: FakeCluster) -> None:
    """Ctrl-C ends a command at once and without a word."""
    cluster.faults.append(Fault("Get", hangs=True, times=99))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "ringhold", "get", "k", "--endpoints", cluster.endpoints[0]], stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: cluster.calls_of("Get"), "the node is asked")
        waiting.send_signal(signal.SIGINT)
        _, complaint = waiting.communicate(timeout=20)
    finally:
        waiting.kill()
    assert (waiting.returncode, complaint) == (130, b"")
