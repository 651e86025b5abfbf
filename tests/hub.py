"""A stand-in for the hub on loopback: the routes that huggingface_hub uses to fetch a model, and their failures.

Small files come from the hub itself, with git's SHA-1 as ETag; weights by a redirect to another host, with their
SHA-256 and by ranges.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

Files = Mapping[str, bytes]
LARGE = ".safetensors"
GATED, MISSING = "gated/gpt2", "nobody/nothing"


@dataclass(eq=False)
class Hub:
    """What the stand-in serves and what it was asked. revisions: repository -> branch or tag -> files. cuts: how many
    answers with weights break off in the middle. is_damaged: whether weights come with a byte changed.
    """

    revisions: dict[str, dict[str, Files]]
    cuts: int = 0
    is_damaged: bool = False
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def files(self, repo: str, revision: str) -> Files | None:
        """Of a branch, a tag or a commit."""
        named = self.revisions.get(repo, {})
        return named.get(revision) or next((files for files in named.values() if commit_of(files) == revision), None)


def commit_of(files: Files) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def checksum(name: str, content: bytes) -> str:
    """How the hub names a file's content."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def files_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            self._listed(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolved(*found.groups())
        elif found := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            self._stored(found[1])
        else:
            self._send(404, b"", {})

    def _listed(self, repo: str, what: str, revision: str) -> None:
        if repo == GATED:
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if repo not in self.hub.revisions:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        files = self.hub.files(repo, revision)
        if files is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        about: Any = {"id": repo, "modelId": repo, "sha": commit_of(files), "private": False, "gated": False,
                      "tags": [], "siblings": [{"rfilename": name} for name in files]}  # fmt: skip
        if what == "tree":
            about = [_entry(name, content) for name, content in files.items()]
        return self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def _resolved(self, repo: str, revision: str, name: str) -> None:
        files = self.hub.files(repo, revision) or {}
        if name not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        tag, content = checksum(name, files[name]), files[name]
        about = {"X-Repo-Commit": commit_of(files), "ETag": f'"{tag}"'}
        if not name.endswith(LARGE):
            return self._send(200, content, about)
        about |= {"X-Linked-Etag": f'"{tag}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", about | {"Location": f"http://localhost:{self.hub.port}/cdn/{tag}"})

    def _stored(self, tag: str) -> None:
        every = [file for named in self.hub.revisions.values() for files in named.values() for file in files.items()]
        content = next(content for name, content in every if checksum(name, content) == tag)
        if self.hub.is_damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.hub.ranges.append(asked or "all")
        about = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        self._send(206 if asked else 200, content[start:], about, cut=self._is_cut())

    def _is_cut(self) -> bool:
        if self.command == "HEAD" or not self.hub.cuts:
            return False
        self.hub.cuts -= 1
        return True

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True


def _entry(name: str, content: bytes) -> dict[str, Any]:
    tag = checksum(name, content)
    lfs = {"lfs": {"oid": tag, "size": len(content), "pointerSize": 134}} if name.endswith(LARGE) else {}
    return {"type": "file", "path": name, "size": len(content), "oid": tag[:40], **lfs}
