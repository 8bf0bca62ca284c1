"""Writes the generated protobuf and gRPC stubs, or checks that they are fresh (`--check`).

The generator is pinned and lives in an environment of its own: its output asks for no newer protobuf than setup.cfg
does, while the product runs with the newest.
"""

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "api" / "proto"
PACKAGE = "ringhold/api/proto"
GENERATOR = ("grpcio-tools==1.76.0", "setuptools<81")
ENVIRONMENT = ROOT / ".venv-proto"


def generator_python() -> Path:
    """The interpreter of the generator's environment, made at the first call."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *GENERATOR], check=True)
        (ENVIRONMENT / "ready").touch()
    return python


def generate(target: Path) -> list[Path]:
    """Generated files below `target`, laid out as below the repository's root."""
    sources = sorted(PROTO.rglob("*.proto"))
    names = [f"{PACKAGE}/{source.relative_to(PROTO)}" for source in sources]
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    command = [str(generator_python()), "-m", "grpc_tools.protoc", f"-I{PACKAGE}={PROTO}", *outputs, *names]
    subprocess.run(command, check=True)
    produced = [path for path in (target / PACKAGE).rglob("*.py*") if path.is_file()]
    return [path for path in produced if not is_empty_service(path)]


def is_empty_service(path: Path) -> bool:
    """Whether a `_pb2_grpc` module was made for a file that has no service."""
    return path.name.endswith("_pb2_grpc.py") and "Servicer" not in path.read_text()


def is_same(made: Path, place: Path) -> bool:
    """Whether the file in the repository is the one that was made now."""
    return place.exists() and filecmp.cmp(made, place, shallow=False)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        produced = generate(target)
        places = {path: PROTO / path.relative_to(target / PACKAGE) for path in produced}
        if "--check" in sys.argv[1:]:
            wanted = set(places.values())
            stale = [place for path, place in places.items() if not is_same(path, place)]
            there = [path for path in PROTO.rglob("*_pb2*.py*") if "__pycache__" not in path.parts]
            stale += [path for path in there if path not in wanted]
            for place in stale:
                print(f"stale: {place.relative_to(ROOT)}; run `make proto`", file=sys.stderr)
            return 1 if stale else 0
        for path, place in places.items():
            place.write_bytes(path.read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
