"""Taste as a test: what a reviewer would otherwise say again and again. The reasons stand beside the rules."""

import ast
import configparser
import doctest
import importlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from support.skips import allowed_patterns, unlisted

ROOT = Path(__file__).resolve().parent.parent
PRODUCT_FOLDERS = ("api", "ring", "gossip", "node")
CODE_FOLDERS = (*PRODUCT_FOLDERS, "tests", "benchmarks", "scripts")
GENERATED = ROOT / "api" / "proto"
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
TEXT_SUFFIXES = {".py", ".md", ".proto", ".yaml", ".toml", ".cfg", ".txt", ""}


def python_files(*folders: str) -> list[Path]:
    found = chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
    return sorted(path for path in found if GENERATED not in path.parents)


PRODUCT = [*sorted(ROOT.glob("*.py")), *python_files(*PRODUCT_FOLDERS)]
CODE = [*sorted(ROOT.glob("*.py")), *python_files(*CODE_FOLDERS)]
TESTS = [path for path in python_files("tests") if path.name.startswith("test_")]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def trees(paths: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for path in paths:
        yield path, ast.parse(path.read_text())


def definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def core_files() -> list[Path]:
    """The modules that pyproject.toml's contract calls cores, as files; missing ones are left to import-linter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    modules = next(contract["source_modules"] for contract in contracts if contract["name"] == "cores do no I/O")
    places = [ROOT.joinpath(*module.split(".")[1:]) for module in modules]
    files = [place.with_suffix(".py") for place in places if place.with_suffix(".py").exists()]
    return sorted({*files, *chain.from_iterable(place.rglob("*.py") for place in places)})


@dataclass(frozen=True)
class Ban:
    """A pattern of source text that has a better form; `unless` lists files where it is right."""

    pattern: str
    instead: str
    unless: tuple[str, ...] = ()


SUPERVISORS = ("node/supervisor.py", "gossip/agent.py")
"""Where any exception is caught, and told to the node. Gossip has its own place, since it may not import the node's."""

TASK_OWNERS = (*SUPERVISORS, "node/cli/", "node/peers/network_transport.py")
"""Who makes tasks, and waits for every one of them."""

EVERYWHERE = [
    Ban(r"\b(TODO|FIXME|XXX)\b", "do it, or write down the decision not to"),
    Ban(r"\bdef \w*(_|\b)(utils?|helpers?|manager|common)(_|\b)", "name what it does"),
    Ban(r"\bclass \w*(Utils?|Helpers?|Manager|Common)(?![a-z])", "name what it is"),
    Ban(r"/work/|/tmp/w/|\bissue \d", "the repository says nothing of one machine or of its own making"),
    Ban(r"\bNotImplementedError\b", "a Protocol for a contract; no stubs"),
    Ban(r"\bimport_module\(|\b__import__\(", "import statements", ("__init__.py", "tests/test_tidy.py")),
]
IN_PRODUCT = [
    Ban(r"\bexcept (Exception|BaseException)\b|\bexcept:", "typed errors", SUPERVISORS),
    Ban(r"contextlib\.suppress\(Exception|\bsuppress\(Exception", "typed errors; nothing is swallowed"),
    Ban(r"(?<![\w.])print\(", "a log event, or the console of node/cli", ("node/cli/",)),
    Ban(r"\btime\.(time|monotonic|perf_counter)\(", "Clock.now (P7)", ("node/clock.py", "node/cli/", "api/client/")),
    Ban(r"\bdatetime\.(now|utcnow|today)\(", "Clock.now (P7)", ("node/logs.py",)),
    Ban(r"\brandom\.(random|randint|randrange|choice|choices|sample|shuffle|uniform)\(", "the `rng` that was injected"),
    Ban(r"\basyncio\.wait\(", "TaskGroup or asyncio.timeout: they lose no exception", ("node/cli/processes.py",)),
    Ban(r"\basyncio\.wait_for\(", "asyncio.timeout"),
    Ban(r"\bget_event_loop\(", "asyncio.get_running_loop"),
    Ban(r"\basyncio\.(create_task|ensure_future)\(", "Supervisor.spawn: it hears the task's end", TASK_OWNERS),
    Ban(r"\bjson_format\b", "typed fields: json_format on input from the network takes any depth"),
    Ban(r"\bimport pickle\b|\bpickle\.|\bimport marshal\b", "protobuf"),
    Ban(r"\bos\.fork\(|\bmultiprocessing\b", "subprocess: grpc does not survive a fork"),
    Ban(r"\bshell=True", "a list of arguments"),
    Ban(r"\bouter_stack=True", "outer_stack=False: it walks the stack at every call"),
]
IN_CORES = [
    Ban(r"\basync def\b|\bawait\b", "return an effect; the shell awaits"),
    Ban(r"(?<![\w.])hash\(", "xxhash: hash() of bytes differs from process to process"),
    Ban(r"\bos\.environ\b|(?<![\w.])open\(", "take it as an argument"),
]
IN_TESTS = [
    Ban(r"\btime\.sleep\(", "poll for the condition"),
    Ban(r"\basyncio\.sleep\((?!0\))", "poll for the condition"),
    Ban(r"\bunittest\b", "a fake from beside the Protocol"),
]


def violations(files: list[Path], bans: list[Ban]) -> list[str]:
    lines = (
        (name_of(path), number, line)
        for path in files
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text().splitlines(), 1)
    )
    return [
        f"{name}:{number}: {line.strip()}  ->  {ban.instead}"
        for name, number, line in lines
        for ban in bans
        if re.search(ban.pattern, line) and not any(part in name for part in ban.unless)
    ]


def test_no_banned_word_is_anywhere() -> None:
    """What is banned everywhere is in no file of code, text or configuration."""
    texts = [path for path in [*PAGES, *ROOT.glob("*.*"), ROOT / "Makefile", ROOT / "Dockerfile"] if path.is_file()]
    protos = list((ROOT / "api").rglob("*.proto"))
    readable = {path for path in [*CODE, *texts, *protos] if path.suffix in TEXT_SUFFIXES}
    assert violations(sorted(readable), EVERYWHERE) == []


def test_the_product_uses_what_we_agreed_on() -> None:
    """Product code uses the clock, the supervisor, typed errors and the log, not what they replace."""
    assert violations(PRODUCT, IN_PRODUCT) == []


def test_cores_neither_wait_nor_guess() -> None:
    """A core has no coroutine, no open file and no hash that differs between processes."""
    assert violations(core_files(), IN_CORES) == []


def test_tests_poll_and_never_sleep() -> None:
    """No test waits for a fixed time or patches what a fake can replace."""
    assert violations(TESTS, IN_TESTS) == []


def test_files_are_named_after_what_they_hold() -> None:
    """No file or folder of code is called utils, helper, manager, common, data or info."""
    banned = re.compile(r"(^|_)(utils?|helpers?|manager|common|data|info)(_|\.|$)")
    parts = {part for path in CODE for part in path.relative_to(ROOT).parts}
    assert sorted(part for part in parts if banned.search(part)) == []


def test_product_files_are_short() -> None:
    """No product file has more than 500 lines."""
    long = {name_of(path): size for path in PRODUCT if (size := len(path.read_text().splitlines())) > FILE_LINES_MAX}
    assert long == {}


def test_product_functions_are_short() -> None:
    """No function of the product has more than 60 lines."""
    long = [
        f"{name_of(path)}: {function.name} has {size} lines"
        for path, tree in trees(PRODUCT)
        for function in definitions(tree)
        if (size := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_every_module_says_its_job() -> None:
    """Every module opens with a docstring."""
    assert [name_of(path) for path, tree in trees(CODE) if tree.body and ast.get_docstring(tree) is None] == []


def test_every_test_says_its_rule() -> None:
    """Every test has a docstring."""
    silent = [
        f"{name_of(path)}: {function.name}"
        for path, tree in trees(TESTS)
        for function in definitions(tree)
        if function.name.startswith("test_") and ast.get_docstring(function) is None
    ]
    assert silent == []


def test_limits_are_named_max() -> None:
    """A limit of a configuration is called `…_max`, never `max_…`."""
    backwards = re.compile(r"^\s*(self\.)?max_\w+\s*:\s*(int|float)\b")
    lines = [(name_of(path), line.strip()) for path in PRODUCT for line in path.read_text().splitlines()]
    assert [place for place in lines if backwards.match(place[1])] == []


def test_setup_cfg_lists_every_package() -> None:
    """Every folder of the product with a Python file or a contract in it is in setup.cfg, and nothing else is."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options"]["packages"].split()
    folders = {path.parent for folder in PRODUCT_FOLDERS for path in (ROOT / folder).rglob("*.py")}
    packages = {".".join(("ringhold", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert sorted(listed) == sorted({"ringhold", *packages})


def test_packages_have_an_init_module() -> None:
    """Every package of the product has an `__init__.py`."""
    folders = {path.parent for folder in PRODUCT_FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert sorted(name_of(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


def test_the_root_holds_two_modules() -> None:
    """The repository's root is the package: any other module there would ship."""
    assert sorted(path.name for path in ROOT.glob("*.py")) == ["__init__.py", "__main__.py"]


def imported_names(tree: ast.Module) -> set[str]:
    """First parts of the absolute imports of a module."""
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in plain | froms if name}


def normalised(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_imported_distributions_are_required() -> None:
    """What the product imports from elsewhere is required by setup.cfg, not only by something that it requires."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    required = {normalised(re.split(r"[<>=]", line)[0]) for text in listed for line in text.split()}
    imported = {name for _, tree in trees(PRODUCT) for name in imported_names(tree)}
    foreign = imported - sys.stdlib_module_names - {"ringhold"}
    owners = packages_distributions()
    assert sorted(name for name in foreign if not required.intersection(map(normalised, owners.get(name, [])))) == []


def heading_anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose)
    return [
        link for link in links if not link.startswith(("http://", "https://", "mailto:")) and not resolves(page, link)
    ]


def resolves(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in heading_anchors(target.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    """Every relative link of a page leads to a file, and its anchor to a heading."""
    assert broken_links(page) == []


def test_pages_named_in_code_exist() -> None:
    """A page that a docstring sends the reader to exists."""
    named = {(name_of(path), page) for path in CODE for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())}
    assert sorted(place for place in named if not (ROOT / place[1]).exists()) == []


def test_decisions_are_numbered_without_gaps() -> None:
    """Records of decisions are numbered from 0001 and say context, decision and consequences."""
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [record.name[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    parts = {"context", "decision", "consequences"}
    assert [record.name for record in records if not parts <= heading_anchors(record.read_text())] == []


def product_modules() -> list[str]:
    return [
        ".".join(("ringhold", *path.relative_to(ROOT).with_suffix("").parts))
        for path in PRODUCT
        if ">>>" in path.read_text()
    ]


@pytest.mark.parametrize("module", product_modules())
def test_examples_of_docstrings_hold(module: str) -> None:
    """Every example in a docstring of the product gives what it says."""
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_ci_runs_the_same_commands() -> None:
    """CI installs the tools of the tests, runs `make test` and `make test-long`, and nothing of its own."""
    script = ROOT / ".ci" / "run"
    assert [line for line in script.read_text().splitlines() if line.startswith("make")] == [
        "make power-tools",
        "make test",
        "make test-long",
    ]
    assert os.access(script, os.X_OK)


def test_an_allowed_skip_needs_a_reason() -> None:
    """A line of allowed_skips.txt without a reason is an error, and a listed test covers no other."""
    patterns = allowed_patterns("# note\n\ntests/unit/test_a.py::test_x[rocksdb] : needs a tmpfs\n")
    assert unlisted(["tests/unit/test_a.py::test_x[rocksdb]", "tests/unit/test_a.py::test_xr"], patterns) == [
        "tests/unit/test_a.py::test_xr"
    ]
    with pytest.raises(ValueError, match="reason"):
        allowed_patterns("tests/unit/test_a.py")
