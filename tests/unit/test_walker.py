"""The walker of the tests of moving clusters: one that finds nothing wrong proves nothing unless it could."""

import pytest
from support.moving_cluster import Walker


@pytest.mark.parametrize("harm", ["lacks one", "has one twice", "has a stranger", "is out of order"])
def test_a_walk_that_is_not_the_whole_index_is_wrong(harm: str) -> None:
    """Each entry is to be there exactly once, in order, and nothing else."""
    walker = Walker(["127.0.0.1:1"])
    whole = sorted(walker._expected)
    walker._judge(whole)
    assert walker.wrong == []
    harmed = {
        "lacks one": whole[:-1],
        "has one twice": [*whole[:5], *whole[4:]],
        "has a stranger": [*whole, (b"9", b"stranger")],
        "is out of order": whole[::-1],
    }
    walker._judge(harmed[harm])
    assert len(walker.wrong) == 1
