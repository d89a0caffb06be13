"""Repositories of the hub brought into its cache, each file compared with its hash.

The hub's client downloads and renames; whether what came is what was meant is checked here.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import disk_usage
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download

from launcher.errors import EnvironmentFault, LauncherError
from launcher.plan import hub_cache
from launcher.plan.hub_cache import FileFacts
from launcher.plan.pins import Pin, Want
from launcher.runs.files import write_json, write_text
from launcher.text import gib
from launcher.worker import hub, hub_files

_AT_ONCE = 8
_ANSWER_S = 6.0
_DEAD_AFTER_S = 3600.0
"""A download that has written nothing for so long has no process any more."""


@dataclass
class Fetcher:
    """Brings repositories into the hub's cache.

    `facts`: only configuration, tokenizer and the headers of weights; `check`: read every byte of what is there already.
    """

    facts: bool = False
    check: bool = False
    downloaded: int = 0
    """Bytes so far."""

    def fetch(self, key: str, want: Want, pin: Pin | None, commit: str | None) -> Pin:
        """One repository, with every file that is needed at its place.

        Args:
            key: `model`, `tokenizer`, `adapter` or `data.LABEL`.
            want: what the recipe names.
            pin: what the lock file says of it; then nothing is asked of the hub but files that are missing.
            commit: without a pin, the commit to take; None: where the branch or tag stands now.

        Raises:
            EnvironmentFault: it cannot be brought; the message says why.
        """
        try:
            found = pin or self._resolved(key, want, commit or want.revision)
            files = {name: facts for name, facts in found.files.items() if not self.facts or not _weights(name)}
            # What nobody has compared with this lock is read once.
            self._bring(found, files, hashes=self.check or pin is None)
            self._note(found)
        except LauncherError:
            raise
        except hub_files.UnusableRepository as fault:
            raise EnvironmentFault(f"{_kind(key)} `{want.repo}` {fault.message}", hint=fault.hint) from fault
        except OSError as fault:
            if fault.filename is None:
                raise _not_fetched(key, want, fault) from fault
            raise EnvironmentFault(f"{fault.filename}: {(fault.strerror or str(fault)).lower()}") from fault
        except Exception as fault:
            # Each library on the way has errors of its own.
            raise _not_fetched(key, want, fault) from fault
        return found

    def _resolved(self, key: str, want: Want, revision: str) -> Pin:
        """The commit that a branch or tag stands at, and the files that are needed of it."""
        _require_hub(key, want)
        info: Any = HfApi().repo_info(
            want.repo, repo_type=want.kind, revision=revision, files_metadata=True, timeout=_ANSWER_S
        )
        stated = {each.rfilename: _stated(each) for each in info.siblings or ()}
        pin = Pin(want.kind, want.repo, want.revision, want.asked, commit=str(info.sha), files=stated)
        if want.kind == "dataset":
            pin = replace(pin, splits=hub_files.splits(want.repo, pin.commit, want.asked))
        names = self._needed(key, pin)
        return replace(pin, files={name: stated[name] for name in sorted(names)})

    def _needed(self, key: str, pin: Pin) -> list[str]:
        names = list(pin.files)
        if pin.kind == "dataset":
            return hub_files.of_data(names, pin.splits)
        if key == "tokenizer":
            return hub_files.of_tokenizer(names, pin.asked)
        if key == "adapter":
            return hub_files.of_adapter(names)
        index = self._download(pin, hub_files.INDEX, anew=False) if hub_files.INDEX in names else None
        return hub_files.of_model(names, pin.asked, index)

    def _bring(self, pin: Pin, files: dict[str, FileFacts], *, hashes: bool) -> None:
        wrong = dict(hub_cache.faults(pin.folder(_cache()), files, hashes=hashes))
        if not wrong:
            return
        if not hub.reachable():
            name, fault = next(iter(wrong.items()))
            raise EnvironmentFault(f"{name} of `{pin.repo}` {fault}, and {hub.why_not()}", hint=_WITH_NETWORK)
        _sweep(pin)
        _require_space(pin, sum(files[name].size for name in wrong))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            work = {
                pool.submit(self._download, pin, name, anew=fault != hub_cache.MISSING): name
                for name, fault in wrong.items()
            }
            try:
                for done in as_completed(work):
                    done.result()
                    self.downloaded += files[work[done]].size
                    say(f"{pin.repo}: {work[done]} ({gib(files[work[done]].size)})")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _download(self, pin: Pin, name: str, *, anew: bool) -> Path:
        """One file, compared with its hash; what differs does not stay. `anew`: what is in the cache is not used."""
        where: dict[str, Any] = {"repo_type": pin.kind, "revision": pin.commit}
        path = Path(hf_hub_download(pin.repo, name, force_download=anew, **where))
        fault = hub_cache.file_fault(path, pin.files[name], hashes=True)
        if fault and not anew:  # the same bytes may have been there under another commit, damaged
            return self._download(pin, name, anew=True)
        if fault:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise EnvironmentFault(
                f"{name} of `{pin.repo}` at {pin.commit[:12]} {fault}, though it was just downloaded",
                hint="it was removed; type the same again, and if that does not help, do not trust what is there",
            )
        return path

    def _note(self, pin: Pin) -> None:
        """Where the branch stands, for who asks for it by name; or the shapes of weights that were not fetched."""
        if not self.facts:
            if pin.revision != pin.commit:
                write_text(hub_cache.repository(_cache(), pin.kind, pin.repo) / "refs" / pin.revision, pin.commit)
            return
        noted = hub_cache.headers_file(_cache(), pin.repo, pin.commit)
        absent = [name for name in pin.files if _weights(name) and not (pin.folder(_cache()) / name).exists()]
        if absent and not noted.exists():
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                headers = pool.map(lambda name: _header(pin, name), absent)
                write_json(noted, dict(zip(absent, headers, strict=True)))


def say(line: str) -> None:
    """Tell a person."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


_WITH_NETWORK = "type the same on a machine with network"


def _cache() -> Path:
    return Path(constants.HF_HUB_CACHE)


def _kind(key: str) -> str:
    return "dataset" if key.startswith("data.") else key


def _weights(name: str) -> bool:
    return name.endswith((".safetensors", ".gguf"))


def _stated(file: Any) -> FileFacts:
    """What the hub says of a file: LFS files have a sha256, the others git's sha1."""
    if file.lfs is not None:
        return FileFacts(int(file.lfs.size), f"sha256:{file.lfs.sha256}")
    return FileFacts(int(file.size), f"sha1:{file.blob_id}")


def _header(pin: Pin, name: str) -> dict[str, list[int]]:
    found = HfApi().parse_safetensors_file_metadata(pin.repo, name, revision=pin.commit)
    return {tensor: list(facts.shape) for tensor, facts in found.tensors.items()}


def _require_hub(key: str, want: Want) -> None:
    if not hub.reachable():
        raise EnvironmentFault(f"{_kind(key)} `{want.repo}` was never fetched, and {hub.why_not()}", hint=_WITH_NETWORK)


def _require_space(pin: Pin, size: int) -> None:
    _cache().mkdir(parents=True, exist_ok=True)
    free = disk_usage(_cache()).free
    if size > free:
        raise EnvironmentFault(
            f"`{pin.repo}` takes {gib(size)} more, {_cache()} has {gib(free)} free",
            hint="free space there, or name another folder: `paths.cache` of the cluster's profile, else HF_HOME",
        )


def _sweep(pin: Pin) -> None:
    """Remove what killed downloads have left: the hub's client never goes on with it."""
    for file in (hub_cache.repository(_cache(), pin.kind, pin.repo) / "blobs").glob("*.incomplete"):
        if time.time() - file.stat().st_mtime > _DEAD_AFTER_S:
            file.unlink(missing_ok=True)


def _not_fetched(key: str, want: Want, fault: Exception) -> EnvironmentFault:
    message, hint = hub.fault_of(_kind(key), want.repo, fault)
    return EnvironmentFault(message, hint=hint)
