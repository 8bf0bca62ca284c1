"""The configurations in a replica's log that may still be undone, and the applied one: the newest counts (4.1)."""

from collections.abc import Sequence

from .configuration import Configuration
from .log import Entry


class Configurations:
    """Oldest first, each with the index of its entry; the first is the applied one."""

    def __init__(self, recovered: Sequence[tuple[int, Configuration]]) -> None:
        self._entries = list(recovered)

    @property
    def applied(self) -> tuple[int, Configuration]:
        return self._entries[0]

    @property
    def newest(self) -> Configuration:
        return self._entries[-1][1]

    @property
    def newest_index(self) -> int:
        return self._entries[-1][0]

    @property
    def all(self) -> Sequence[Configuration]:
        """Each that may turn out to be valid."""
        return [each for _, each in self._entries]

    def all_vote_by(self, node_id: str) -> bool:
        """Whether nobody but this node votes, whichever of them turns out to be valid."""
        return all(each.voting_nodes == (node_id,) for _, each in self._entries)

    def any_votes_by(self, node_id: str) -> bool:
        """Whether this node votes in one of them."""
        return any(node_id in each.voting_nodes for _, each in self._entries)

    def append(self, entry: Entry) -> None:
        """An entry was appended; it is valid from now on if it is a configuration."""
        if entry.content.HasField("configuration"):
            self._entries.append((entry.index, Configuration.decode(entry.content.configuration)))

    def truncate(self, index: int) -> None:
        """The entries from `index` on are removed: the one before is valid again."""
        while self._entries[-1][0] >= index:
            self._entries.pop()

    def apply(self, index: int) -> None:
        """The entries up to `index` can't be undone any more."""
        while len(self._entries) > 1 and self._entries[1][0] <= index:
            del self._entries[0]

    def install(self, index: int, configuration: Configuration, kept_after: float) -> None:
        """A snapshot says which one is applied; those that the log keeps after it may still be undone."""
        later = [each for each in self._entries if each[0] > kept_after]
        self._entries = [(index, configuration), *later]
