"""The simulator finds bugs: each of these is planted in the product, and must be found by the ordinary workload."""

from collections.abc import Iterator

import pytest
from simulation.farm import Farm, processes_for
from simulation.faults import FAULTS
from simulation.hunt import first_caught

SEEDS_MAX = 12

RARE = frozenset(
    [
        "acknowledged_before_sync",
        "bad_checksum_served",
        "damaged_log_cut_off",
        "deposed_means_not_applied",
        "expired_id_applied_again",
        "following_of_an_old_epoch_counted",
        "lease_counted_from_receipt",
        "lease_kept_after_transfer",
        "read_confirmed_by_nobody",
        "removed_before_the_newcomer_votes",
        "replicas_by_liveness",
        "restarted_replica_votes_at_once",
        "snapshot_from_two_views",
        "two_voter_changes_at_once",
    ]
)
"""Found by more seeds than a test has time for: `make sim-faults` hunts them."""

LATE = frozenset(
    [
        "age_vouched_by_a_new_leader",
        "cut_ignored",
        "election_restriction_ignored",
        "index_written_later",
        "lease_counted_whole",
        "lease_not_checked",
        "log_dropped_before_the_install_ended",
        "lost_means_not_applied",
        "mark_written_before_the_sync",
        "page_begins_at_the_last",
        "read_before_the_first_commit",
        "reborn_node_founds_again",
        "refusals_swallowed",
        "replica_id_used_again",
        "resolve_answers_without_logging",
        "snapshot_without_index_entries",
        "stale_epoch_accepted",
        "stale_reads",
        "tombstones_forgotten",
        "two_movers_of_any_epoch",
        "visible_before_commit",
        "vote_granted_while_supporting",
        "vote_not_persisted",
    ]
)
"""Found by a dozen seeds, but not by the first few, or in a long run: `make test-long` has time for them."""


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    """Processes for the runs of this module."""
    with Farm(processes_for(SEEDS_MAX)) as farm:
        yield farm


def assert_found(farm: Farm, fault: str, seeds: int) -> None:
    found = first_caught(farm, fault, range(seeds))
    assert found is not None, f"{fault} was not found within {seeds} seeds"
    print(f"{fault}: seed {found.seed}, {found.violations[0]}")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in RARE | LATE])
def test_a_planted_bug_is_found(fault: str, farm: Farm) -> None:
    """A few seeds suffice to see that the product is broken."""
    assert_found(farm, fault, SEEDS_MAX)


@pytest.mark.long
@pytest.mark.parametrize("fault", sorted(LATE))
def test_a_planted_bug_is_found_later(fault: str, farm: Farm) -> None:
    """Some more do for these."""
    assert_found(farm, fault, SEEDS_MAX)
