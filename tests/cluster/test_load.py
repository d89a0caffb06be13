"""Clusters by name."""

import pytest

from launcher.cluster.load import load_cluster
from launcher.errors import UsageError


@pytest.mark.parametrize(
    ("on", "name", "count"),
    [
        ("RTX4090x1", "RTX4090", 1),
        ("RTX4090", "RTX4090", 1),
        ("rtx4090", "RTX4090", 1),
        ("rtx4090x2", "RTX4090", 2),
        ("RTX 4090 x 2", "RTX4090", 2),
        ("H100x8", "H100", 8),
        ("A100-40GBx4", "A100-40GB", 4),
    ],
)
def test_on_reads_name_and_count(on, name, count):
    """`rtx4090` itself ends in an x and a number."""
    cluster = load_cluster("local", on=on)
    assert (cluster.gpu.name, cluster.gpus_per_node, cluster.here) == (name, count, False)


@pytest.mark.parametrize("on", ["H100x0", "H100x65", "H100x99999", "RTX4091x1", "x8", "", "H100x-1"])
def test_on_refuses_what_is_no_hardware(on):
    """A plan for hardware that does not exist would be a guess."""
    with pytest.raises(UsageError):
        load_cluster("local", on=on)


def test_gpus_and_on_contradict_each_other():
    """One is this machine, the other is not."""
    with pytest.raises(UsageError, match="--gpus 0"):
        load_cluster("local", gpus="0", on="H100x8")


def test_account_needs_a_site():
    """This machine charges nobody."""
    with pytest.raises(UsageError, match="--account x"):
        load_cluster("local", account="x")
