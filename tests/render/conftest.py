"""Plans are made in the test's own folder: `--set` paths start from the current one."""

import pytest


@pytest.fixture(autouse=True)
def _in_the_tests_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LAUNCHER_DATA", "LAUNCHER_MODELS", "LAUNCHER_CACHE", "LAUNCHER_RUNS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
