"""A stand-in for the model hub: serves a folder of repositories over HTTP on this machine.

    root/models/<owner>/<name>/...      root/datasets/<owner>/<name>/...      the branch main
    root/models/<owner>/<name>@v2/...   root/datasets/<owner>/<name>@v2/...   another branch or tag, v2

Point a *fresh process* at it with HF_ENDPOINT=<url>; the client reads that variable when it is imported.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""Of the branch main."""


@contextmanager
def serve(root: Path, remembered: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Serves `root` until the block ends; gives the address and the growing list of requested paths.

    With `remembered` it names the commit also where a file is missing, as the real hub does: the client keeps that.
    """
    requests: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, root, requests, remembered))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, requests: list[str], remembered: bool, *args: Any) -> None:
        self.root, self.requests, self.remembered = root, requests, remembered
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        kind, repository, verb, revision, rest = self._parse()
        self.requests.append(f"{self.command} {self.path}")
        revisions = _revisions(self.root / kind / repository) if repository else {}
        if revision not in revisions:
            self._missing("RevisionNotFound" if revisions else "RepoNotFound")
            return
        folder, self.commit = revisions[revision]
        if verb in ("", "revision"):
            files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
            facts: dict[str, Any] = {"id": repository, "sha": self.commit, "private": False, "gated": False}
            facts |= {"disabled": False, "tags": []}
            self._json({**facts, "siblings": [{"rfilename": name} for name in files]})
        elif verb == "tree" and (folder / rest).is_dir():
            recursive = "recursive=true" in self.path.lower()
            entries = (folder / rest).rglob("*") if recursive else (folder / rest).iterdir()
            self._json([_entry(folder, entry) for entry in sorted(entries)])
        elif verb == "resolve" and (folder / rest).is_file():
            content = (folder / rest).read_bytes()
            self._send(200, content, {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": self.commit})
        else:
            self._missing("EntryNotFound")

    def _parse(self) -> tuple[str, str, str, str, str]:
        """(models|datasets, owner/name, verb, revision, path after it)."""
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[0] == "api":
            kind, parts = parts[1], parts[2:]
        else:
            kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        return kind, "/".join(parts[:2]), "".join(parts[2:3]), "".join(parts[3:4]) or "main", "/".join(parts[4:])

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", "X-Repo-Commit": self.commit})

    def _missing(self, code: str) -> None:
        commit = {"X-Repo-Commit": self.commit} if self.remembered and code == "EntryNotFound" else {}
        self._send(404, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **commit})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _revisions(main: Path) -> dict[str, tuple[Path, str]]:
    """Folder and commit of each revision, by its name and by its commit; empty where there is no repository."""
    if not main.is_dir():
        return {}
    others = {folder.name.partition("@")[2]: folder for folder in main.parent.glob(f"{main.name}@*")}
    found = {name: (folder, hashlib.sha1(name.encode()).hexdigest()) for name, folder in others.items()}
    found["main"] = (main, COMMIT)
    return found | {commit: (folder, commit) for folder, commit in found.values()}


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": COMMIT, "size": 0}
    content = path.read_bytes()
    return {"type": "file", "path": name, "oid": _blob(content), "size": len(content)}


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
