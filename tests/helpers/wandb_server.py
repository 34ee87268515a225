"""A stand-in for the W&B service on loopback: it answers what wandb 0.31 and its reports ask, and keeps what arrives.

There is one user, `someone`, whose projects are those that anyone named. It checks nothing: tests do.
What it does not know it answers with an error, and wandb lives with that where not every service can do a thing.
"""

import base64
import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER = "someone"
KEY = "0123456789" * 4
TIME = "2026-01-01T00:00:00Z"
Words = dict[str, Any]


@dataclass
class Run:
    """What arrived of a run. `stream`: lines by the file that they belong to; `ended`: an exit code each time."""

    opened: Words = field(default_factory=dict)
    stream: dict[str, list[Words]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    ended: list[int] = field(default_factory=list)

    @property
    def config(self) -> Words:
        """Its config, without W&B's own key."""
        return plain({key: one["value"] for key, one in json.loads(self.opened["config"]).items()})

    @property
    def history(self) -> list[Words]:
        """Its rows, without W&B's own keys."""
        return [plain(row) for row in self.stream.get("wandb-history.jsonl", [])]

    @property
    def summary(self) -> Words:
        """Its summary, without W&B's own keys."""
        return plain(json.loads(self.files["wandb-summary.json"]))

    def tables(self) -> dict[str, Words]:
        """Columns and data of its tables, by key."""
        found = {name: re.fullmatch(r"media/table/(.+)_\d+_\w+\.table\.json", name) for name in self.files}
        return {match[1]: json.loads(self.files[name]) for name, match in found.items() if match}


@dataclass
class Artifact:
    """What arrived of an artifact."""

    name: str
    type: str
    run: str
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: Words = field(default_factory=dict)
    committed: bool = False


def plain(row: Words) -> Words:
    """Without the keys that W&B adds."""
    return {key: value for key, value in row.items() if not key.startswith("_")}


class Service(ThreadingHTTPServer):
    """The service and all that it was told; a method on_X answers the question X. Once it has opened a run of the name
    `last`, it is lost: it hangs up."""

    daemon_threads = True  # a client may keep its connection
    request_queue_size = 128  # files come all at once

    def __init__(self, last: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.environment = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}
        self.asked: list[tuple[str, Words]] = []
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.projects: dict[str, Words] = {}
        self.views: dict[str, Words] = {}
        self.turn, self.last, self.lost = threading.Lock(), last, False

    def artifact(self, name: str) -> Artifact:
        """The only artifact of a name."""
        (found,) = [one for one in self.artifacts.values() if one.name == name]
        return found

    def answer(self, question: Words) -> Words:
        """Answers GraphQL by the name of the operation."""
        name = re.findall(r"(?:query|mutation)\s+(\w+)", question["query"])[0]
        words = question.get("variables") or {}
        self.asked.append((name, words))
        if method := getattr(self, f"on_{name}", None):
            return {"data": method({**words, **(words.get("input") or {})})}
        return {"errors": [{"message": f"the stand-in knows no {name}"}]}

    def stream(self, name: str, told: Words) -> Words:
        """Keeps lines of a run, each at its place."""
        run = self.runs[name]
        for file, part in (told.get("files") or {}).items():
            lines = [json.loads(line) if file.endswith("l") else line for line in part["content"]]
            kept = run.stream.setdefault(file, [])
            kept[part["offset"] : part["offset"] + len(lines)] = lines
        run.ended += [told["exitcode"]] if told.get("complete") else []
        return {"exitcode": None, "limits": {}}

    def keep(self, where: str, data: bytes) -> Words:
        """Keeps an uploaded file."""
        kind, name, file = where.split("/", 2)
        if kind == "manifest":
            self.artifacts[name].manifest = json.loads(data)
        else:
            (self.runs if kind == "run" else self.artifacts)[name].files[file] = data
        return {}

    def project(self, name: str) -> Words:
        """A project, which is there from now on."""
        home = {"id": name, "name": name, "entityName": USER, "entity": {"id": USER, "name": USER}}
        return self.projects.setdefault(name, {**home, "createdAt": TIME, "isBenchmark": False, "user": None})

    # -- the user and the service

    def on_GetDefaultEntity(self, words: Words) -> Words:
        """Whose account it is, for a report that names nobody."""
        return self.on_Viewer(words)

    def on_Viewer(self, words: Words) -> Words:
        more = {"username": USER, "email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": {"id": USER, "entity": USER, **more}}

    def on_ServerFeaturesQuery(self, words: Words) -> Words:
        return {"serverInfo": {"features": []}}

    def on_GetProjects(self, words: Words) -> Words:
        edges = [{"node": {"__typename": "Project", **one}} for one in self.projects.values()]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}

    def on_CreateProject(self, words: Words) -> Words:
        made = self.project(words["name"])
        return {"result": {"project": made, "model": made, "inserted": True}}

    def on_ProjectInternalId(self, words: Words) -> Words:
        return {"project": {"id": words["projectName"], "internalId": words["projectName"]}}

    # -- runs

    def on_UpsertBucket(self, words: Words) -> Words:
        new = words["name"] not in self.runs
        run = self.runs.setdefault(words["name"], Run())
        run.opened |= {key: value for key, value in words.items() if value is not None}
        self.lost = bool(self.last) and words["displayName"] == self.last
        return {"upsertBucket": {"bucket": self.bucket(words), "inserted": new}}

    def on_RunResumeStatus(self, words: Words) -> Words:
        there = self.bucket(words) if words["name"] in self.runs else None
        return {"model": {**self.project(words["project"]), "bucket": there}}

    def bucket(self, words: Words) -> Words:
        run = self.runs[words["name"]]
        rows = run.stream.get("wandb-history.jsonl", [])
        known = {
            "id": words["name"],
            "name": words["name"],
            "project": self.project(words["project"]),
            "sweepName": None,
        }
        known |= {key: run.opened.get(key) for key in ("displayName", "config", "tags")}
        lines = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0, "eventsTail": "[]"}
        tail = json.dumps([json.dumps(row) for row in rows[-1:]])
        return {**known, **lines, "historyTail": tail, "summaryMetrics": "{}", "wandbConfig": '{"t": 1}'}

    def on_CreateRunFiles(self, words: Words) -> Words:
        files = [{"name": name, "uploadUrl": f"{self.url}/run/{words['run']}/{name}"} for name in words["files"]]
        return {"createRunFiles": {"runID": words["run"], "uploadHeaders": [], "files": files}}

    # -- artifacts

    def on_CreateArtifact(self, words: Words) -> Words:
        name = f"artifact{len(self.artifacts)}"
        made = Artifact(words["artifactCollectionName"], words["artifactTypeName"], words["runName"])
        self.artifacts[name] = made
        known = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": known}}

    def on_CreateArtifactManifest(self, words: Words) -> Words:
        name = words["artifactID"]
        file = {"id": name, "uploadUrl": f"{self.url}/manifest/{name}/", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": name, "file": file}}}

    def on_CreateArtifactFiles(self, words: Words) -> Words:
        edges = []
        for one in words["artifactFiles"]:
            name, file = one["artifactID"], one["name"]
            node = {"uploadUrl": f"{self.url}/artifact/{name}/{file}", "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": {**node, "storagePath": file, "artifact": {"id": name}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_CommitArtifact(self, words: Words) -> Words:
        self.artifacts[words["artifactID"]].committed = True
        return {"commitArtifact": {"artifact": {"id": words["artifactID"], "digest": ""}}}

    # -- reports

    def on_upsertView(self, words: Words) -> Words:
        name = words["id"] or base64.b64encode(f"View:{len(self.views):04}".encode()).decode()
        inserted = name not in self.views
        home = self.project(words["projectName"])
        self.views[name] = {**words, "id": name, "project": home, "createdAt": TIME, "updatedAt": TIME}
        return {"upsertView": {"view": self.views[name], "inserted": inserted}}

    def on_SpecificReport(self, words: Words) -> Words:
        return {"view": self.views[words["reportId"]]}


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, gzip and chunks."""

    protocol_version = "HTTP/1.1"
    server: Service  # type: ignore[assignment]

    def do_POST(self) -> None:
        data = self.body()
        if self.server.lost:
            self.close_connection = True
            return
        with self.server.turn:
            said = json.dumps(self.reply(self.path, data)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_PUT = do_POST

    def reply(self, path: str, data: bytes) -> Words:
        if path == "/graphql":
            return self.server.answer(json.loads(data))
        if path.endswith("/file_stream"):
            return self.server.stream(path.split("/")[-2], json.loads(data))
        return self.server.keep(path[1:], data) if self.command == "PUT" else {}  # wandb's own telemetry

    def body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        while self.headers.get("Transfer-Encoding") == "chunked" and (size := int(self.rfile.readline(), 16)):
            data += self.rfile.read(size)
            self.rfile.readline()
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

    def handle(self) -> None:
        with suppress(ConnectionError):  # clients that hang up
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def service(last: str = "") -> Iterator[Service]:
    """The service at work, on a port of its own, until the end or the run named `last`."""
    with Service(last) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
