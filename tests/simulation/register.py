"""One key as a register: what writes it, what looks at it, and what a look may find."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Write:
    """Changes the register. Not `certain`: it may be left out. `version` None: unknown, only larger than the last."""

    value: bytes | None
    version: int | None
    certain: bool
    invoked: float
    returned: float


@dataclass(frozen=True, slots=True)
class Look:
    """Finds `value` at `version`; None: finds nothing."""

    value: bytes | None
    version: int
    invoked: float
    returned: float


@dataclass(frozen=True, slots=True)
class Register:
    """The last write's value and version; `version` is a lower bound after one of unknown version."""

    value: bytes | None = None
    version: int = 0

    def written(self, write: Write) -> "Register | None":
        """The register after a write; None if it can't come next."""
        if write.value is None and self.value is None:
            return None  # an effective Delete needs a record
        if write.version is None:
            return Register(write.value, self.version + 1)
        return Register(write.value, write.version) if write.version > self.version else None

    def shows(self, look: Look) -> bool:
        return look.value == self.value and (look.value is None or look.version == self.version)
