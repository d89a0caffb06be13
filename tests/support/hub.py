"""A hub on loopback: repositories of real files, served as huggingface_hub and datasets ask for them.

Commits are made by `push`; each keeps its files for good. What the server was asked stands in `Hub.seen`; a test can have
it answer slowly, wrongly, or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_LARGE = (".safetensors", ".parquet")
"""Kept as large files (LFS): their hash is a sha256."""
_API = re.compile(r"/api/(models|datasets)/(.+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass
class Repository:
    """One repository: commit → its files, and where its branches stand."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    closed: str | None = None
    """`GatedRepo`: who asks is refused with this error code."""

    def at(self, revision: str) -> str | None:
        """The commit of a branch or commit."""
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Hub:
    """The server, its repositories, and what it does on purpose."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """By `models/ORG/NAME` or `datasets/ORG/NAME`."""
    seen: list[str] = field(default_factory=list)
    """METHOD and path of each request."""
    damaged: set[str] = field(default_factory=set)
    """Names of files that are served with one byte changed."""
    stalls: set[str] = field(default_factory=set)
    """Names of files of which only the first half comes."""

    def push(self, kind: str, name: str, folder: Path, *, branch: str = "main") -> str:
        """Add a folder's files as a commit of a `models` or `datasets` repository; returns the commit."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        repository = self.repositories.setdefault(f"{kind}/{name}", Repository())
        content = json.dumps([[path, hashlib.sha256(data).hexdigest()] for path, data in sorted(files.items())])
        commit = hashlib.sha1(f"{name}{content}".encode()).hexdigest()
        repository.commits[commit] = files
        repository.branches[branch] = commit
        return commit

    def downloads(self) -> list[str]:
        """Files that were asked for, without the questions about them."""
        return [line.split("/resolve/")[1].partition("/")[2] for line in self.seen if line.startswith("GET /") and "/resolve/" in line]  # fmt: skip

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """For a process that uses this hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def facts_of(name: str, data: bytes) -> dict[str, Any]:
    """A file as the hub's API lists it."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    sha256 = hashlib.sha256(data).hexdigest()
    large = {"lfs": {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 134}}
    return {"size": len(data), "blobId": blob, "oid": blob, **(large if name.endswith(_LARGE) else {})}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.hub.seen.append(f"{self.command} {path}")
        if found := _FILE.match(path):
            self._file(f"{'datasets' if found[1] else 'models'}/{found[2]}", found[3], found[4])
        elif found := _API.match(path):
            self._api(found, parse_qs(url.query), parse_qs(body))
        else:
            self._send(404, b"")

    def _commit(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif repository.closed:
            self._refuse(403, repository.closed, "Access to this repository is restricted.")
        elif (commit := repository.at(revision)) is None:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        else:
            return repository, commit
        return None

    def _api(self, found: re.Match[str], query: dict[str, list[str]], body: dict[str, list[str]]) -> None:
        kind, name, what, revision, inside = found.groups()
        at = self._commit(f"{kind}/{name}", revision or "main")
        if at is None:
            return
        files = at[0].commits[at[1]]
        if what == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            self._json(_tree(files, inside or "", recursive=recursive))
        elif what == "paths-info":
            self._json([entry for path in body.get("paths", []) for entry in _entry(files, path)])
        else:
            siblings = [{"rfilename": path, **facts_of(path, data)} for path, data in sorted(files.items())]
            self._json({"id": name, "sha": at[1], "private": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})  # fmt: skip

    def _file(self, name: str, revision: str, file: str) -> None:
        at = self._commit(name, revision)
        if at is None:
            return
        data = at[0].commits[at[1]].get(file)
        if data is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": at[1]})
            return
        facts = facts_of(file, data)
        headers = {
            "X-Repo-Commit": at[1],
            "ETag": f'"{facts["lfs"]["sha256"] if "lfs" in facts else facts["blobId"]}"',
            "Accept-Ranges": "bytes",
        }
        if file in self.hub.damaged:
            data = bytes([data[0] ^ 1]) + data[1:]
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self._send(206, data[first : last + 1], headers)
        elif file in self.hub.stalls and self.command == "GET":
            self._half(data, headers)
        else:
            self._send(200, data, headers)

    def _half(self, data: bytes, headers: dict[str, str]) -> None:
        """Half a file, then nothing more, as long as the other side waits."""
        self._head(200, len(data), headers)
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        while self.path and self.hub.stalls:
            time.sleep(0.05)
        self.close_connection = True

    def _refuse(self, code: int, error: str, message: str, headers: dict[str, str] | None = None) -> None:
        said = {"X-Error-Code": error, "X-Error-Message": message, **(headers or {})}
        self._send(code, json.dumps({"error": message}).encode(), said)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, code: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(code, len(data), headers or {})
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(data)

    def _head(self, code: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, value)
        self.end_headers()


def _tree(files: dict[str, bytes], inside: str, *, recursive: bool) -> list[dict[str, Any]]:
    below = f"{inside.rstrip('/')}/" if inside else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, data in sorted(files.items()):
        if not path.startswith(below):
            continue
        parts = path.removeprefix(below).split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            folder = below + "/".join(parts[:depth])
            entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        if recursive or len(parts) == 1:
            entries[path] = {"type": "file", "path": path, **facts_of(path, data)}
    return list(entries.values())


def _entry(files: dict[str, bytes], path: str) -> list[dict[str, Any]]:
    if path in files:
        return [{"type": "file", "path": path, **facts_of(path, files[path])}]
    inside = any(each.startswith(f"{path}/") for each in files)
    return [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0}] if inside else []
