"""A machine of the group under virtual time (raft_group.py), and what joins two of them."""

from dataclasses import dataclass, field

from support.raft_disk import Disk

from ringhold.node.consensus.core import Replica
from ringhold.node.consensus.heart import Heart
from ringhold.node.consensus.support import Support


@dataclass(eq=False)
class Node:
    """A machine: its clock, its disk, and what runs on it at present."""

    node_id: str
    rate: float = 1.0
    offset: float = 0.0
    generation: int = 0
    life: int = 0
    is_up: bool = False
    paused_until: float = 0.0
    sync_s: float = 0.001
    disk: Disk | None = None
    buried: int = -1
    """The newest replica id that was here and is removed."""
    is_ticking: bool = False
    is_syncing: bool = False
    is_installing: bool = False
    fetches: int = 0
    """Snapshots asked for and not dealt with yet."""
    _support: Support | None = None
    _heart: Heart | None = None
    _replica: Replica[int] | None = None

    @property
    def support(self) -> Support:
        assert self._support is not None
        return self._support

    @property
    def heart(self) -> Heart:
        assert self._heart is not None
        return self._heart

    @property
    def hosted(self) -> Replica[int] | None:
        """The replica that runs here, if one does."""
        return self._replica

    @property
    def replica(self) -> Replica[int]:
        assert self._replica is not None, f"{self.node_id} has no replica"
        return self._replica

    def clock(self, time: float) -> float:
        return self.offset + self.rate * time

    def time(self, clock: float) -> float:
        """The inverse of `clock`."""
        return (clock - self.offset) / self.rate

    def begin_life(self) -> None:
        self.generation += 1
        self.life += 1
        self.is_up = True
        self.is_ticking = self.is_syncing = self.is_installing = False
        self.fetches = 0
        self._support = Support(self.generation)
        self._heart = Heart(self._support, lambda: [] if self._replica is None else [self._replica])

    def open(self, replica: Replica[int]) -> None:
        self._replica = replica

    def close(self) -> None:
        self._replica = None


@dataclass
class Link:
    """What joins two nodes. A session is open on each side from when it hears of it until it hears of its end."""

    session: int = 0
    is_joined: bool = False
    is_blocked: bool = False
    open: dict[str, bool] = field(default_factory=dict)
    news: dict[str, int] = field(default_factory=dict)
    """By node: how many begins and ends of sessions it has not heard of yet."""
    free_at: dict[str, float] = field(default_factory=dict)
    """By receiver: nothing that is sent from now on arrives earlier, for all comes in order."""
