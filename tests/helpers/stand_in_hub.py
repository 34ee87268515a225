"""A stand-in for the Hugging Face Hub on this machine: one data set at one commit, read by ranges of bytes or whole."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = (COMMIT, "refs/convert/parquet")
"""Names of the one commit."""


class Hub(ThreadingHTTPServer):
    """Serves the files of a folder as owner/name; `asked` are the files of which bytes were fetched, in order."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.lost = False

    @property
    def names(self) -> list[str]:
        """The files, as the data set names them."""
        return sorted(str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file())

    def measure(self, name: str) -> int:
        """Return the bytes of a file."""
        return (self.folder / name).stat().st_size


class Handler(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks of a data set."""

    @property
    def hub(self) -> Hub:
        """The server."""
        assert isinstance(self.server, Hub)
        return self.server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self.hub.lost:
            self.send_error(403)
        elif unquote(path).removeprefix("/api/datasets/owner/name") in (
            "",
            *(f"/revision/{name}" for name in REVISIONS),
        ):
            siblings = [{"rfilename": name} for name in self.hub.names]
            self.send_json({"id": "owner/name", "sha": COMMIT, "siblings": siblings})
        elif match := re.fullmatch(f"/api/datasets/owner/name/tree/{COMMIT}(?:/(.*))?", path):
            self.send_tree(match[1] or "")
        elif match := re.fullmatch(f"/datasets/owner/name/resolve/{COMMIT}/(.*)", path):
            self.send_range(match[1])
        else:
            self.send_missing("RepoNotFound")

    def send_tree(self, folder: str) -> None:
        """Send the files below a folder, or, if not asked for all, the files and folders in it."""
        inside = f"{folder}/" if folder else ""
        files = [name for name in self.hub.names if name.startswith(inside)]
        entries = [{"type": "file", "path": name, "size": self.hub.measure(name), "oid": "0"} for name in files]
        if "recursive=true" not in self.path.lower():
            entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(inside)]
            folders = {
                name.removeprefix(inside).partition("/")[0] for name in files if "/" in name.removeprefix(inside)
            }
            entries += [{"type": "directory", "path": inside + name, "oid": "0"} for name in sorted(folders)]
        if files:
            self.send_json(entries)
        else:
            self.send_missing("EntryNotFound")

    def do_HEAD(self) -> None:
        """Send what the hub's cache asks of a file before it is fetched."""
        path = self.path.partition("?")[0]
        match = re.fullmatch(f"/datasets/owner/name/resolve/{COMMIT}/(.*)", path)
        if self.hub.lost or match is None:
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(match[1].encode()).hexdigest()}"')
        self.send_header("Content-Length", str(self.hub.measure(match[1])))
        self.end_headers()

    def send_range(self, name: str) -> None:
        self.hub.asked.append(name)
        content = (self.hub.folder / name).read_bytes()
        if "Range" not in self.headers:
            self.send_bytes(content, 200)
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.send_bytes(content[first : last + 1], 206)

    def send_missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_json(self, answer: Any) -> None:
        self.send_bytes(json.dumps(answer).encode(), 200)

    def send_bytes(self, content: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve_hub(folder: Path) -> Iterator[Hub]:
    """Serve a folder as long as it lasts."""
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
