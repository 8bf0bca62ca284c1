"""Reads a node's settings: flags > environment > TOML file > defaults, and says where a wrong one came from.

The only place that parses them, and the only one that imports pydantic. See docs/configuration.md.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from ...api.limits import Limits
from ..config import ConfigError, NodeConfig

PREFIX = "RINGHOLD_"
NESTED = "__"
OTHER_VARIABLES = ("RINGHOLD_CONFIG", "RINGHOLD_ENDPOINTS")
"""Variables that are not a node's settings."""

SERVICE_LINK = re.compile(r"RINGHOLD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
"""What Kubernetes puts into the environment of every pod for a Service whose name begins with `ringhold`."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What was given, before it is judged."""

    flags: Mapping[str, object]
    environment: Mapping[str, str]
    file: Path | None
    document: Mapping[str, Any]

    def origin(self, path: tuple[str, ...]) -> str:
        """Where the value of a setting came from, as people know it."""
        if path[0] in self.flags:
            return flag_of(path[0])
        variable = variable_of(path)
        if self.environment.get(variable):
            return variable
        if holds(self.document, path):
            return f"{self.file}: {'.'.join(path)}"
        return flag_of(path[0]) if len(path) == 1 else ".".join(path)


def load_config(flags: Mapping[str, object], file: Path | None) -> NodeConfig:
    """The settings of a node. `flags` has the given ones only, by field; `file` wins over RINGHOLD_CONFIG.

    Raises ConfigError with the sentence to show.
    """
    environment = {name.upper(): value for name, value in os.environ.items()}
    file = file or path_in(environment)
    sources = Sources(flags, environment, file, document_of(file))
    refuse_unknown_variables(sources.environment)
    try:
        return NodeConfig(**chosen(sources))
    except ValidationError as error:
        raise first_problem(error, sources) from error
    except ConfigError as error:
        path = tuple(error.field.split("."))
        raise ConfigError(error.field, f"{sources.origin(path)}: {error}") from error


def path_in(environment: Mapping[str, str]) -> Path | None:
    path = environment.get("RINGHOLD_CONFIG")
    return Path(path) if path else None


def document_of(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("config", f"{file} can't be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, not TOML
        raise ConfigError("config", f"{file} is not TOML: {error}") from error


def refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    limits = tuple(("limits", limit.name) for limit in fields(Limits))
    settings = tuple((setting.name,) for setting in fields(NodeConfig) if setting.name != "limits")
    known = {variable_of(path) for path in settings + limits}.union(OTHER_VARIABLES)
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known and not SERVICE_LINK.fullmatch(name):
            raise ConfigError(name, f"{name} is not a setting{suggestion(name, known)}")


def chosen(sources: Sources) -> dict[str, Any]:
    """The arguments of NodeConfig that were given anywhere, in their types."""
    settings = settings_model(sources)()
    given = settings.model_dump(exclude_unset=True)
    if given.get("on_sigterm") == "kubernetes" and not given.get("kubernetes_api"):
        given["kubernetes_api"] = api_server_in(sources.environment)
    if "limits" in given:
        given["limits"] = Limits(**given["limits"])
    return given


def api_server_in(environment: Mapping[str, str]) -> str | None:
    """The API server that the kubelet tells each pod of; None outside of a pod.

    >>> api_server_in({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"})
    'https://[fd00::1]:6443'
    """
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT") or "443"
    if not host:
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def settings_model(sources: Sources) -> type[BaseSettings]:
    """A model with the fields of NodeConfig that reads `sources`; flags win over variables over the file."""

    class Layers(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=PREFIX,
            env_nested_delimiter=NESTED,
            env_ignore_empty=True,
            extra="forbid",
            validate_default=False,
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            flags, document = sources.flags, sources.document
            return GivenSource(settings_cls, flags), env_settings, GivenSource(settings_cls, document)

    hints = get_type_hints(NodeConfig)
    hints["seeds"] = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]
    hints["limits"] = limits_model()
    required = {"data_dir"}
    settings: dict[str, Any] = {name: (kind, ... if name in required else None) for name, kind in hints.items()}
    return create_model("Settings", __base__=Layers, **settings)


class GivenSource(PydanticBaseSettingsSource):
    """Values that are at hand: those of the flags, those of the file."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = values

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._values)


def limits_model() -> type[BaseModel]:
    kinds = get_type_hints(Limits)
    limits: dict[str, Any] = {name: (Annotated[kind, Field(gt=0)], None) for name, kind in kinds.items()}
    return create_model("Limits", __config__=ConfigDict(extra="forbid"), **limits)


def split_list(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


def first_problem(error: ValidationError, sources: Sources) -> ConfigError:
    problem = error.errors(include_url=False)[0]
    path = tuple(part for part in problem["loc"] if isinstance(part, str))
    name = ".".join(path)
    if problem["type"] == "missing":
        return ConfigError(name, f"give {flag_of(name)}, {variable_of(path)} or {name} in the file")
    if problem["type"] == "extra_forbidden":
        known = [field.name for field in fields(NodeConfig if len(path) == 1 else Limits)]
        return ConfigError(name, f"{sources.origin(path)} is not a setting{suggestion(path[-1], known)}")
    complaint = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return ConfigError(name, f"{sources.origin(path)}: {problem['input']!r} {complaint}")


def suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable_of(path: tuple[str, ...]) -> str:
    """The environment's name of a setting.

    >>> variable_of(("limits", "key_bytes_max"))
    'RINGHOLD_LIMITS__KEY_BYTES_MAX'
    """
    return PREFIX + NESTED.join(path).upper()


def holds(document: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    inner: Any = document
    for part in path:
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return True
