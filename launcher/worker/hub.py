"""Whether the hub can be asked, found out in seconds: its client tries again for most of a minute, file by file."""

from __future__ import annotations

import socket
import threading
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

_SECONDS = 5.0


@cache
def reachable() -> bool:
    """Whether the hub, or the proxy before it, takes a connection within 5 s. Asked once per process.

    Pass `local_files_only=not reachable()` wherever a hub name is loaded: without a network the answer then comes
    from the cache at once.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    done: list[bool] = []
    # Looking up a name has no time limit of its own.
    thread = threading.Thread(target=lambda: done.append(_connects()), daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return bool(done and done[0])


def _connects() -> bool:
    hub = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(hub.scheme)
    gate = urlsplit(proxy) if proxy and not proxy_bypass(hub.hostname or "") else hub
    try:
        port = gate.port or (443 if gate.scheme == "https" else 80)
        with socket.create_connection((gate.hostname or "", port), timeout=_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def fault_of(kind: str, name: str, fault: Exception) -> tuple[str, str]:
    """Message and hint for something of the hub that could not be loaded.

    Args:
        kind: what it is, for the message: `tokenizer`, `model`, `dataset`.
        name: its hub id.
        fault: what the library raised.
    """
    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
    cause: BaseException | None = fault
    while cause is not None:
        if isinstance(cause, GatedRepoError):
            return (
                f"{kind} `{name}` is gated, and this machine's token does not open it",
                f"accept its terms at {page}, then set HF_TOKEN",
            )
        if isinstance(cause, RevisionNotFoundError):
            return f"{kind} `{name}` has no such revision", f"its branches and tags: {page}/tree/main"
        if isinstance(cause, RepositoryNotFoundError):
            return f"{constants.ENDPOINT} has no `{name}`, or hides it", "check the name; a private one needs HF_TOKEN"
        cause = cause.__cause__
    text = " ".join(str(fault).split())[:200]
    if reachable():
        return f"{kind} `{name}` cannot be loaded: {text}", "check the name and the revision"
    return (
        f"{kind} `{name}` is not on this machine, and {why_not()}",
        "`launcher fetch RECIPE` on a machine with network brings it; a local folder works too",
    )


def why_not() -> str:
    """Why the hub is not reachable, as the end of a sentence."""
    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
