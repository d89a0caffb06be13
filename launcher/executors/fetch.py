"""What a recipe takes from the hub, brought to this machine and pinned, and whether it is there when a job needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.cluster import hub
from launcher.cluster.schema import Cluster, Site
from launcher.errors import EnvironmentFault, Exit, RunFailed
from launcher.executors import packages
from launcher.plan import lock_file, pins
from launcher.plan.hub_cache import hub_cache
from launcher.plan.make import Planned
from launcher.plan.pins import Missing, Pins, Want
from launcher.recipe.load import LoadedRecipe
from launcher.runs.files import write_text

_NEEDED = ("huggingface_hub", "datasets")


@dataclass(frozen=True)
class Fetched:
    """What was brought, and where it is noted."""

    pins: Pins
    lock: Path
    written: bool
    """The lock file is another than before."""
    downloaded: int
    """Bytes."""


def fetch(
    loaded: LoadedRecipe, cluster: Cluster, *, facts: bool = False, check: bool = False, update: bool = False
) -> Fetched:
    """Bring the model, tokenizer, adapter and data sets of a recipe into the hub's cache and write the lock file.

    Args:
        loaded: the recipe.
        cluster: where it will run: its profile names the cache.
        facts: only what a plan needs: configuration, tokenizer and the headers of weights; no data.
        check: read every byte of what is there already, and bring what is damaged again.
        update: take what branches and tags stand at now, whatever the lock file says.

    Raises:
        LauncherError: something cannot be brought. What has arrived stays, and is not downloaded again.
    """
    wants, file = lock_file.wants(loaded, cluster.paths), lock_file.lock_file(loaded)
    locked = {} if update else pins.read(file)
    asked = {key: want for key, want in wants.items() if not facts or not key.startswith("data.")}
    cache = lock_file.cache_of(cluster)
    found, downloaded = _present(asked, locked, cache) if not facts and not check else None, 0
    if found is None:
        found, downloaded = _ask(asked, locked, cache, facts=facts, check=check)
    # With --facts the data stays as it was pinned.
    kept = {key: pin for key, pin in locked.items() if key in wants and key not in asked}
    text = pins.dumps({**kept, **found})
    written = bool(found) and text != (file.read_text(encoding="utf-8") if file.exists() else None)
    if written:
        write_text(file, text)
    return Fetched({key: found[key] for key in asked}, file, written, downloaded)


def _present(wants: Mapping[str, Want], locked: Pins, cache: Path) -> Pins | None:
    """The pins, if all of it is here, by the sizes of the files; then no process is needed."""
    found = {key: locked[key] for key, want in wants.items() if key in locked and pins.is_current(locked[key], want)}
    return found if len(found) == len(wants) and not pins.missing(found, cache) else None


def _ask(wants: Mapping[str, Want], locked: Pins, cache: Path, *, facts: bool, check: bool) -> tuple[Pins, int]:
    packages.require(_NEEDED)
    request = {
        "wants": {key: asdict(want) for key, want in wants.items()},
        "pins": pins.dumps(locked),
        "facts": facts,
        "check": check,
    }
    # Only where files go changes: HF_HOME is also where the user's token lies.
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "PYTHONSAFEPATH": "1"}
    if not sys.stderr.isatty():
        env["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "launcher.worker.fetch"],
        env=env,
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    answer = _answer(done.stdout)
    if "error" in answer:
        raise EnvironmentFault(answer["error"], hint=answer["hint"])
    if done.returncode != Exit.DONE:
        raise RunFailed(
            f"fetching ended with exit code {done.returncode}", hint="what has arrived stays: type it again"
        )
    return pins.loads(answer["pins"], "the worker's answer"), int(answer["downloaded"])


def _answer(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


def missing(planned: Planned, site: Site) -> list[Missing]:
    """Files of the hub that a job on this site would not find: not fetched, or cut off. Looks at sizes only.

    Args:
        planned: the plan with its pins.
        site: the profile names the cache; without internet, what no lock file pins is missing as a whole.
    """
    found = pins.missing(planned.pins, hub_cache(hub.home(site)))
    if site.profile.internet:
        return found
    return [*found, *_not_fetched(planned)]


def _not_fetched(planned: Planned) -> list[Missing]:
    plan, known = planned.plan, {*planned.pins, *planned.placement}
    named = {
        "model": plan.model.name,
        "tokenizer": plan.model.tokenizer,
        "adapter": plan.model.adapter,
        **{f"data.{each.label}": each.path for each in (*plan.data.sources, *plan.data.eval_sources)},
    }
    return [
        Missing(key, name, "all", "was not fetched")
        for key, name in named.items()
        if name and key not in known and "://" not in name and "${" not in name
    ]
