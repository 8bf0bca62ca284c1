"""How disks are hurt: never a second one before the first is whole again."""

from simulation.world import run_seed

SEED = 0
HURTS = ("bit flips", "copied disk", "keys lost", "lost disk", "lost tail", "restored disk", "wiped engine")
FAULTS_MIN = 3


def test_the_next_disk_is_hurt_when_the_last_one_is_whole() -> None:
    """At most one of three copies of anything is destroyed at a time, so every promise must hold."""
    hurt, faults = "", 0
    for line in run_seed(SEED).trace:
        if " nemesis " not in line:
            continue
        told = line.split("nemesis", 1)[1].strip()
        if told.endswith("is whole again"):
            assert told.startswith(hurt)
            hurt = ""
        elif told.startswith(HURTS):
            assert not hurt, f"{told}, while {hurt} is not whole"
            hurt = told.split(": ", 1)[1].split(",")[0]
            faults += 1
    assert faults >= FAULTS_MIN
