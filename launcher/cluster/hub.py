"""The hub's files on a site: where jobs find them, and that nothing beyond them can be asked."""

from __future__ import annotations

import os
from pathlib import Path

from launcher.cluster.schema import Site

_OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "TRACKIO_SPACE_ID": "", "TRACKIO_SERVER_URL": ""}


def home(site: Site) -> Path | None:
    """HF_HOME of a site's jobs: the shared cache, where the profile names one; else each user's own."""
    cache = site.profile.paths.cache
    return Path(os.path.expandvars(cache)).expanduser() if cache else None


def environment(site: Site) -> dict[str, str]:
    """Variables for the jobs of a site."""
    cache = home(site)
    where = {} if cache is None else {"HF_HOME": str(cache)}
    return where if site.profile.internet else {**where, **_OFFLINE}
