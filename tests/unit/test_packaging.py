"""What a user gets from `pip install ringhold`: every package, the contract, types, and a command."""

import configparser
import re
from importlib.metadata import distribution, entry_points
from importlib.resources import files
from pathlib import Path

import ringhold

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = Path(str(files("ringhold")))


def setup_cfg() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return setup


def contract_files() -> list[str]:
    proto = ROOT / "api" / "proto"
    return sorted(str(path.relative_to(ROOT)) for path in proto.rglob("*") if path.suffix in {".proto", ".pyi"})


def test_every_module_is_installed() -> None:
    """Each module of each package in the repository is in the installed package."""
    folders = [ROOT.joinpath(*name.split(".")[1:]) for name in setup_cfg()["options"]["packages"].split()]
    modules = [path.relative_to(ROOT) for folder in folders for path in folder.glob("*.py")]
    assert [str(path) for path in modules if not (INSTALLED / path).exists()] == []


def test_contract_and_types_are_installed() -> None:
    """The .proto files, the stubs' types and the py.typed mark are in the installed package."""
    wanted = ["py.typed", *contract_files()]
    assert len(wanted) > 1
    assert [name for name in wanted if not (INSTALLED / name).exists()] == []


def test_nothing_else_is_installed() -> None:
    """The distribution holds the package, its metadata and the command; no tests, scripts or other top-level names."""
    tops = {path.parts[0] for path in distribution("ringhold").files or () if ".." not in path.parts}
    strangers = [
        top for top in tops if not re.fullmatch(r"ringhold(-[\w.]+\.dist-info)?|__editable__.*|__pycache__", top)
    ]
    assert strangers == []


def test_command_is_declared() -> None:
    """Installing gives the command `ringhold`, and no other."""
    (command,) = [
        point for point in entry_points(group="console_scripts") if point.dist and point.dist.name == "ringhold"
    ]
    assert (command.name, command.value) == ("ringhold", "ringhold.node.cli.app:run")


def test_metadata_is_that_of_the_repository() -> None:
    """Version, licence, supported Python and extras of the distribution are those that setup.cfg states."""
    setup = setup_cfg()
    metadata = distribution("ringhold").metadata
    assert metadata["Version"] == setup["metadata"]["version"] == ringhold.__version__
    assert metadata["Requires-Python"] == setup["options"]["python_requires"]
    assert "Apache-2.0" in {metadata.json.get("license"), metadata.json.get("license_expression")}
    assert set(metadata.get_all("Provides-Extra") or ()) == set(setup["options.extras_require"])


def test_readme_is_the_long_description() -> None:
    """The page on the package index is the README."""
    metadata = distribution("ringhold").metadata
    assert str(metadata.json["description"]).startswith("# Ringhold")


def test_changelog_knows_the_version() -> None:
    """The changelog has a section for what is unreleased, or for the version of setup.cfg."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version = setup_cfg()["metadata"]["version"]
    assert "## [Unreleased]" in changelog or f"## [{version}]" in changelog
