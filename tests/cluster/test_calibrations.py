"""Files of what runs have taught: written, read, damaged, and found for the hardware that is planned for."""

import pytest

from launcher.cluster import calibrations
from launcher.cluster.load import load_cluster
from launcher.errors import RecipeErrors
from launcher.predict.calibration import Point

POINT = Point(
    "id-1", "support", "bfloat16", step_s=2.5, predicted_s=2.0, allocated=10, reserved=12, counted=4, dynamic=5
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_what_is_written_is_read_back():
    """Names that need quotes in YAML included."""
    points = (POINT, Point("id-2", 'a: "b" #c', "float32", flops=1e18))
    path = calibrations.write("RTX 6000 Ada", points)
    assert (path.name, calibrations.known("RTX 6000 Ada")) == ("RTX-6000-Ada.yaml", (points, None))


def test_of_many_runs_the_newest_stay():
    """The file is read each time something is planned."""
    calibrations.write("H100", [Point(f"id-{n}", "x", "bfloat16") for n in range(60)])
    points, _ = calibrations.known("H100")
    assert [point.run for point in points] == [f"id-{n}" for n in range(10, 60)]


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", "rtx-4090", "RTX4090"])
def test_a_gpu_has_one_file_whoever_names_it(name):
    """The driver, nvidia-smi and the catalogue call it differently."""
    assert calibrations.device_of(name) == "RTX4090"


def test_the_hardware_that_is_planned_for_brings_what_was_learned_on_it():
    """A file about another GPU is not looked at."""
    calibrations.write("RTX4090", [POINT])
    assert load_cluster("local", on="RTX4090x2").calibration.step["bfloat16"].value == 1.25
    assert load_cluster("local", on="H100x2").calibration is None


def test_a_file_of_another_version_is_not_used_and_that_is_said(monkeypatch):
    """Its ratios belong to other formulas."""
    calibrations.write("RTX4090", [POINT])
    monkeypatch.setattr(calibrations, "VERSION", "9.9.9")
    found = load_cluster("local", on="RTX4090x1")
    assert found.calibration is None
    assert "by launcher 0." in found.notes[0]
    assert "`launcher calibrate` renews it" in found.notes[0]


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("  - {run: a, name: b, precision: float32, step_s: fast}", 5, "`fast`"),
        ("  - {run: a, name: b, precision: float32, step_s: -1}", 5, "-1"),
        ("  - {run: a, name: b, precision: float32, stepp_s: 1}", 5, "stepp_s"),
        ("  - {run: a, name: b}", 5, "precision"),
        ("  - {run: a", 5, ""),
        ("speed: 3", 5, "Keys of a file: device, launcher, runs"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(line, place, message):
    """It was edited by hand; whoever plans must see which line."""
    path = calibrations.write("RTX4090", [POINT])
    path.write_text(
        'device: "RTX4090"\nlauncher: "0.1.0"\nruns:\n  - {run: x, name: y, precision: float32}\n' + line + "\n"
    )
    with pytest.raises(RecipeErrors) as fault:
        load_cluster("local", on="RTX4090x1")
    (error,) = fault.value.errors
    assert (error.place.source, error.place.line) == (str(path), place) or line.endswith("{run: a")
    assert message in f"{error} {error.hint}"
    assert error.hint
