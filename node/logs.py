"""Log events of a node: one line each on stderr, for people (text) or for machines (JSON).

Events are names with figures, `ready grpc=127.0.0.1:50051`, not sentences, so that they can be searched and counted.
What libraries log goes the same way. See docs/configuration.md.
"""

import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

LEVEL_WIDTH = 7  # of "warning"


def configure_logs(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send all log events of this process at or above `level` to `stream` (stderr), as `text` or `json`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *EVERY_EVENT,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def get_logger(component: str) -> structlog.stdlib.BoundLogger:
    """The logger of a part of the node, `gossip` say: `logger.info("ready", grpc=address)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(component)
    return logger


def formatter(form: str) -> logging.Formatter:
    render = render_json if form == "json" else render_text
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=EVERY_EVENT,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )


def render_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """`time level component event figure=… figure=…`."""
    time, level = event.pop("time"), event.pop("level")
    component, name = event.pop("component"), event.pop("event")
    words = [time, f"{level:<{LEVEL_WIDTH}}", component, one_line(name)]
    return " ".join([*words, *(f"{key}={quoted(value)}" for key, value in event.items())])


def render_json(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    first = {key: event.pop(key) for key in ("time", "level", "component", "event")}
    return json.dumps({**first, **event}, default=str, ensure_ascii=False)


def one_line(text: Any) -> str:
    return " ".join(str(text).splitlines())


def quoted(value: Any) -> str:
    text = str(value)
    plain = text.isprintable() and not any(sign in text for sign in ' "=')
    return text if plain and text else json.dumps(text, ensure_ascii=False)


def rename_component(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["component"] = event.pop("logger")
    return event


EVERY_EVENT: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    rename_component,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.format_exc_info,
]
"""Adds time, level, component and the traceback to an event."""
