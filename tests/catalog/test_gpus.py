"""GPUs by name."""

import pytest

from launcher.catalog.gpus import gpu, gpus
from launcher.errors import UsageError


def test_every_gpu_cites_its_source_and_has_a_name_of_its_own():
    """Two rows with one name would make `--on` depend on the file's order."""
    names = [name.lower() for row in gpus() for name in (row.name, *row.aliases)]
    assert names
    assert len(names) == len(set(names))
    assert all(row.source for row in gpus())


@pytest.mark.parametrize("spelling", ["RTX4090", "rtx4090", "RTX 4090", "NVIDIA GeForce RTX 4090", "rtx-4090"])
def test_a_gpu_is_found_however_its_name_is_spelt(spelling):
    """nvidia-smi, shops and people write the same card in different ways."""
    assert gpu(spelling).name == "RTX4090"


def test_memory_is_what_nvidia_smi_prints_in_gib():
    """24,564 MiB / 1024 = 23.988 GiB."""
    assert gpu("RTX4090").memory_gib == pytest.approx(23.988, abs=1e-3)


@pytest.mark.parametrize(("name", "bf16"), [("T4", False), ("V100", False), ("A100", True), ("H100", True)])
def test_bfloat16_begins_with_compute_capability_8(name, bf16):
    """Volta (7.0) and Turing (7.5) multiply float16 only."""
    assert gpu(name).bf16 is bf16


def test_an_unknown_gpu_is_refused_with_the_nearest_name():
    """A typo must not plan for other hardware."""
    with pytest.raises(UsageError) as caught:
        gpu("RTX4091")
    assert "did you mean `RTX4090`" in (caught.value.hint or "")
