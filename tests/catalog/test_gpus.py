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


@pytest.mark.parametrize(
    ("printed", "row"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB-PCIE"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB-PCIE"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIE"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX4070TiSUPER"),
        ("Tesla V100-SXM2-32GB", "V100-32GB"),
        ("Tesla T4", "T4"),
    ],
)
def test_the_name_that_the_driver_prints_is_known(printed, row):
    """A measured run belongs to the row that it was predicted with."""
    assert gpu(printed).name == row


# Multiprocessors, fused multiply-adds of float16 with float32 sums per clock in each, boost clock in GHz: from NVIDIA's
# architecture papers of Volta, Turing, Ampere (GA100, GA102), Hopper, Ada and RTX Blackwell.
CORES = {
    "V100-32GB": (80, 512, 1.53),
    "T4": (40, 512, 1.59),
    "RTX2080Ti": (68, 256, 1.545),
    "A100-80GB": (108, 1024, 1.41),
    "A30": (56, 1024, 1.44),
    "RTX3090": (82, 256, 1.695),
    "RTX3080": (68, 256, 1.71),
    "RTXA6000": (84, 512, 1.8),
    "H100": (132, 2048, 1.83),
    "H100-PCIE": (114, 2048, 1.62),
    "L4": (58, 512, 2.04),
    "RTX4090": (128, 256, 2.52),
    "RTX4080": (76, 256, 2.505),
    "RTX6000Ada": (142, 512, 2.505),
    "RTX5090": (170, 256, 2.407),
    "RTX5080": (84, 256, 2.617),
    "RTXPRO6000": (188, 512, 2.617),
}


@pytest.mark.parametrize(("name", "cores"), CORES.items())
def test_the_rate_is_cores_times_clock_without_sparsity(name, cores):
    """Datasheets print twice that for sparse matrices, and twice again for sums in float16 on GeForce cards."""
    processors, per_clock, gigahertz = cores
    assert gpu(name).tflops_16bit == pytest.approx(2 * processors * per_clock * gigahertz / 1000, rel=0.02)


def test_every_row_is_plausible():
    """A row in the wrong unit would stand out: bytes per FLOP and watts per FLOP of one generation lie close together."""
    for row in gpus():
        assert 1.9 < row.tflops_16bit / row.tflops_fp32 < 31, row.name
        assert row.tflops_tf32 is None or row.tflops_tf32 == pytest.approx(row.tflops_16bit / 2, rel=0.02), row.name
        assert (row.tflops_tf32 is None) == (row.capability < 8), row.name
        assert 1.2 < row.memory_gb_s / row.tflops_16bit < 28, row.name
        assert row.host_gb_s in (15.8, 31.5, 63) or row.name == "GH200", row.name
        assert row.nvlink_gb_s or not row.nvlink_pairs, row.name
        assert 0.07 < row.tflops_16bit / row.power_w < 2.5, row.name


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
    assert caught.value.hint == "did you mean `RTX4090`?"
    with pytest.raises(UsageError) as caught:
        gpu("banana")
    assert "RTX4090, RTX4080" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["4090", "rtx 4090", "NVIDIA GeForce RTX 4090"])
def test_people_leave_out_the_brand(name):
    """As nvidia-smi writes it, and as it is said."""
    assert gpu(name).name == "RTX4090"
