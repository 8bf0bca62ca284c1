"""What a process makes of its configuration and of what it finds in its folder, before there is a node."""

from pathlib import Path

import pytest

from ringhold.node.clock import BootClock
from ringhold.node.config import NodeConfig
from ringhold.node.ending import Ending
from ringhold.node.kubernetes import KubernetesPolicy
from ringhold.node.main import begin, policy_of, settings_of
from ringhold.node.storage.folder import DataFolder, Identity

IDENTITY = Identity("id", "a", "ringhold", "sqlite", 1)
ADDRESSES = ("a:1", "b:1", "c:1")


@pytest.mark.parametrize(
    ("config", "expect"),
    [(NodeConfig(Path("d")), 1), (NodeConfig(Path("d"), seeds=ADDRESSES, expect=3), 3)],
    ids=["alone", "one of three"],
)
def test_a_successor_founds_no_cluster(config: NodeConfig, expect: int) -> None:
    """The cluster that its folder's former node has left is the one to join, whatever the flags say."""
    assert settings_of(config, IDENTITY).expect == expect
    assert settings_of(config, Identity("id", "a", "ringhold", "sqlite", 1, former="old")).expect == 0


async def test_a_setting_decides_who_says_what_a_stop_means() -> None:
    """Two of the choices always mean the same; the third asks, for the set and the ordinal in the pod's name."""
    for choice, ending in (("restart", Ending.RESTART), ("leave", Ending.LEAVE)):
        assert await policy_of(NodeConfig(Path("d"), on_sigterm=choice), BootClock()).ask() is ending
    asking = NodeConfig(Path("d"), name="r-3", on_sigterm="kubernetes", kubernetes_api="https://h:1")
    assert isinstance(policy_of(asking, BootClock()), KubernetesPolicy)


def test_the_start_after_a_leave_is_that_of_a_new_node(tmp_path: Path) -> None:
    """Another id under the same name, in its first generation; every later start is that of this node."""
    folder = DataFolder(tmp_path)
    config = NodeConfig(tmp_path, name="a")
    former = begin(folder, config, beyond=0)
    folder.adopt("c-1")
    folder.mark_left()
    fresh = begin(folder, config, beyond=0)
    assert fresh == Identity(fresh.node_id, "a", "ringhold", "sqlite", 1, former=former.node_id)
    assert fresh.node_id != former.node_id
    assert begin(folder, config, beyond=0).generation == 2
    folder.close()
