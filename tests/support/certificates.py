"""Certificates for servers of tests, made when they are needed, by the command `openssl`."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = """
[req]
distinguished_name = name
x509_extensions = authority
prompt = no
[name]
CN = authority of a test
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
authorityKeyIdentifier = none
subjectKeyIdentifier = none
[server]
basicConstraints = critical, CA:false
subjectAltName = IP:127.0.0.1
authorityKeyIdentifier = none
subjectKeyIdentifier = none
"""
"""Without key identifiers, as the authorities of older clusters are: Python 3.13 is stricter than they."""


def has_openssl() -> bool:
    return shutil.which("openssl") is not None


@dataclass(frozen=True)
class Certificates:
    """An authority, and a server on 127.0.0.1 that it vouches for; all are files in PEM."""

    authority: Path
    server: Path
    server_key: Path


def make_certificates(folder: Path) -> Certificates:
    """New ones, valid for a day, in a folder that is made."""
    folder.mkdir()
    (folder / "configuration").write_text(CONFIGURATION)
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -config configuration"
    openssl(folder, f"req -x509 {key} -keyout ca.key -out ca.crt")
    openssl(folder, f"req -new {key} -keyout server.key -out server.csr -subj /CN=server")
    signed = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -extfile configuration -extensions server"
    openssl(folder, f"x509 -req -in server.csr {signed} -out server.crt")
    return Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")


def openssl(folder: Path, arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments.split()], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
