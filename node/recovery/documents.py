"""Reports and plans as files: JSON that people can read, with a checksum, since they travel by hand. Pure."""

import json
from typing import Any

from xxhash import xxh3_64_hexdigest

FORMAT = 1
DOCUMENT_BYTES_MAX = 256 * 1024 * 1024


class MalformedDocument(ValueError):
    """A file is not the document that it should be; the text says why."""


def canonical(content: object) -> bytes:
    """Equal contents give equal bytes.

    >>> canonical({"b": 1, "a": [2]})
    b'{"a":[2],"b":1}'
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def write_document(kind: str, content: dict[str, Any]) -> bytes:
    """The file that holds `content`; `kind` says what it is."""
    document = {"ringhold": kind, "format": FORMAT, "content": content, "checksum": _checksum(content)}
    return json.dumps(document, indent=1).encode() + b"\n"


def read_document(kind: str, text: bytes) -> dict[str, Any]:
    """The inverse of `write_document`. Raises MalformedDocument."""
    if len(text) > DOCUMENT_BYTES_MAX:
        raise MalformedDocument(f"it has more than {DOCUMENT_BYTES_MAX} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument("it is not JSON, or was cut") from error
    if not isinstance(document, dict) or document.get("ringhold") != kind:
        raise MalformedDocument(f"it is no {kind} of Ringhold")
    if document.get("format") != FORMAT:
        raise MalformedDocument(f"its format {document.get('format')!r} is unknown")
    content = document.get("content")
    if not isinstance(content, dict) or document.get("checksum") != _checksum(content):
        raise MalformedDocument("its checksum is wrong: it was changed or cut")
    return content


def _checksum(content: dict[str, Any]) -> str:
    return xxh3_64_hexdigest(canonical(content))
