"""A Hub in this process that holds models in memory: the endpoints that huggingface_hub and transformers call for models.

Commits, branches and tags; large files with their check and their transfer apart from the commit; tokens and rights; and faults on demand:
error codes, and connections that break off.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml
from huggingface_hub import ModelCard

LARGE = (".safetensors", ".parquet", ".bin", ".onnx")
"""Endings of files that are uploaded apart from their commit."""

MAIN = "main"
ATTRIBUTES = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


@dataclass
class Repo:
    """A repository: its commits, and the names that point to them."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        sums = {name: hashlib.sha1(content, usedforsecurity=False).hexdigest() for name, content in files.items()}
        text = json.dumps([len(self.commits), sums], sort_keys=True)
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        found = self.branches.get(revision) or self.tags.get(revision)
        return found or (revision if revision in self.commits else None)


class FakeHub:
    """The server. `files` maps each repository to the files of its main branch: path → content.

    Use it as a context manager, with `HF_ENDPOINT` set to `url` in a fresh process, or with the fixture `hub` in this one.

    Attributes:
        tokens: token → names of the users and organisations that it may write for.
        faults: answers to give instead of the right one, in order: (method, pattern of the path, status; 0 breaks the connection off).
        requests: method and path of every request.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.tokens = {"hf_fake": ("tester", "shop")}
        self.faults: list[tuple[str, str, int]] = []
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def files(self) -> dict[str, dict[str, bytes]]:
        return {name: repo.commits[repo.branches[MAIN]] for name, repo in self.repos.items()}

    def edit(self, repo: str, name: str, content: bytes) -> None:
        """Change one file, as somebody does on the Hub's pages."""
        self.repos[repo].commit(MAIN, {**self.files[repo], name: content})

    def environment(self, home: object) -> dict[str, str]:
        """Variables with which a fresh process talks to this Hub; `home` is its folder of downloads."""
        own = {"HF_ENDPOINT": self.url, "HF_TOKEN": "hf_fake", "HF_HUB_DISABLE_XET": "1"}
        return {**own, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""

    def _send(self, code: int, body: object, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, code: int, kind: str = "") -> None:
        self._send(
            code, {"error": kind or f"refused with {code}"}, X_Error_Code=kind, X_Error_Message=kind or f"refused with {code}"
        )

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
            fault = next((one for one in self.hub.faults if one[0] == self.command and re.search(one[1], path)), None)
            if fault is not None:
                self.hub.faults.remove(fault)
        if fault is not None and not fault[2]:
            self.rfile.read(min(10, int(self.headers.get("Content-Length") or 0)))  # breaks off within the transfer
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        if fault is not None:
            self._refuse(fault[2])
            return
        for pattern, name, right in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self._may(right, match, body):
                with self.hub.lock:
                    getattr(self, name)(body, *match.groups())
            if match:
                return
        self._refuse(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _may(self, right: str, match: re.Match[str], body: bytes) -> bool:
        """Whether the request's token has a right; if not, the request is answered."""
        owners = self.hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        if right == "any":
            return True
        if right == "token" or right == "create":
            name = (json.loads(body).get("organization") or "tester") if right == "create" else "tester"
        else:
            name = match[1].split("/")[0]
            repo = self.hub.repos.get(match[1])
            if repo is None or (repo.private and name not in (owners or ())):
                self._refuse(401 if owners is None else 404, "RepoNotFound")
                return False
            if right == "read":
                return True
        if owners is None:
            self._refuse(401)
        elif name not in owners:
            self._refuse(403, f"You have no right to write for {name}")
        return owners is not None and name in owners

    def _whoami(self, body: bytes) -> None:
        self._send(200, {"type": "user", "name": "tester", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def _valid(self, body: bytes) -> None:
        try:
            ModelCard(json.loads(body)["content"])
        except (ValueError, yaml.YAMLError) as error:
            self._send(400, {"errors": [{"message": str(error)}], "warnings": []})
            return
        self._send(200, {"errors": [], "warnings": []})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        answer = {"url": f"{self.hub.url}/{name}", "name": name, "id": "0"}
        if name in self.hub.repos:
            self._send(409, {**answer, "error": "You already created this model repo"})
            return
        self.hub.repos[name] = Repo(bool(asked.get("private")) or asked.get("visibility") == "private")
        self.hub.repos[name].commit(MAIN, dict(ATTRIBUTES))
        self._send(200, answer)

    def _branch(self, body: bytes, repo: str, name: str) -> None:
        found = self.hub.repos[repo]
        if name in found.branches:
            self._refuse(409)
            return
        found.branches[name] = found.branches[MAIN]
        self._send(200, {})

    def _tag(self, body: bytes, repo: str, revision: str) -> None:
        found, tag = self.hub.repos[repo], json.loads(body)["tag"]
        commit = found.resolve(revision)
        if tag in found.tags or commit is None:
            self._refuse(409) if commit else self._refuse(404, "RevisionNotFound")
            return
        found.tags[tag] = commit
        self._send(200, {})

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        own, files = self.hub.repos[repo].commits.get(self.hub.repos[repo].resolve(revision) or "", {}), []
        for file in json.loads(body)["files"]:
            path = file["path"]
            is_large = path.endswith(LARGE)
            oid = None
            if path in own:
                oid = hashlib.sha256(own[path]).hexdigest() if is_large else _git_oid(own[path])
            files.append({"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": oid})
        self._send(200, {"files": files})

    def _batch(self, body: bytes, repo: str) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.large:
                verify = {"href": f"{self.hub.url}/verify", "header": {}}
                upload = {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._send(200, {"transfer": "basic", "objects": objects})

    def _upload(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._refuse(400, "the content is not what was announced")
            return
        self.hub.large[oid] = body
        self._send(200, b"")

    def _verify(self, body: bytes) -> None:
        known = json.loads(body)["oid"] in self.hub.large
        self._send(200, {}) if known else self._refuse(404)

    def _commit(self, body: bytes, name: str, branch: str) -> None:
        repo = self.hub.repos[name]
        if branch not in repo.branches:
            self._refuse(404, "RevisionNotFound")
            return
        files = dict(repo.commits[repo.branches[branch]])
        for line in filter(None, body.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit", repo.branches[branch]) != repo.branches[branch]:
                self._refuse(412, "The parent commit is not the head")
                return
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(branch, files)
        self._send(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "hookOutput": ""}
        )

    def _info(self, body: bytes, name: str, revision: str | None = None) -> None:
        repo = self.hub.repos[name]
        oid = repo.resolve(revision or MAIN)
        if oid is None:
            self._refuse(404, "RevisionNotFound")
            return
        names = [{"rfilename": path} for path in sorted(repo.commits[oid])]
        self._send(200, {"_id": "0", "id": name, "sha": oid, "private": repo.private, "tags": [], "siblings": names})

    def _refs(self, body: bytes, name: str) -> None:
        repo = self.hub.repos[name]
        kinds = {"branches": ("heads", repo.branches), "tags": ("tags", repo.tags)}
        refs = {
            kind: [{"name": one, "ref": f"refs/{folder}/{one}", "targetCommit": oid} for one, oid in names.items()]
            for kind, (folder, names) in kinds.items()
        }
        self._send(200, {**refs, "converts": [], "pullRequests": []})

    def _tree(self, body: bytes, name: str, revision: str, folder: str | None = None) -> None:
        repo = self.hub.repos[name]
        files = repo.commits.get(repo.resolve(revision) or "")
        if files is not None and folder is not None:
            files = {path: content for path, content in files.items() if path.startswith(f"{folder}/")}
        if not files:
            self._refuse(404, "RevisionNotFound" if files is None else "EntryNotFound")
            return
        entries = []
        for path, content in sorted(files.items()):
            entry = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
            if path.endswith(LARGE):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._send(200, entries)

    def _file(self, body: bytes, name: str, revision: str, path: str) -> None:
        repo = self.hub.repos[name]
        oid = repo.resolve(revision)
        content = repo.commits.get(oid or "", {}).get(path)
        if oid is None or content is None:
            self._refuse(404, "RevisionNotFound" if oid is None else "EntryNotFound")
            return
        tag = hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else _git_oid(content)
        headers = {"X_Repo_Commit": oid, "ETag": f'"{tag}"', "Accept_Ranges": "bytes"}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start and self.command == "GET":
            headers["Content_Range"] = f"bytes {start[1]}-{len(content) - 1}/{len(content)}"
            self._send(206, content[int(start[1]) :], **headers)
            return
        self._send(200, content, **headers)


REPO = "([^/]+/[^/]+)"
ROUTES = [
    (r"/api/whoami-v2", "_whoami", "token"),
    (r"/api/validate-yaml", "_valid", "any"),
    (r"/api/repos/create", "_create", "create"),
    (rf"/api/models/{REPO}/preupload/(.+)", "_preupload", "write"),
    (rf"/{REPO}\.git/info/lfs/objects/batch", "_batch", "write"),
    (r"/lfs/([0-9a-f]{64})", "_upload", "any"),
    (r"/verify", "_verify", "any"),
    (rf"/api/models/{REPO}/commit/(.+)", "_commit", "write"),
    (rf"/api/models/{REPO}/branch/(.+)", "_branch", "write"),
    (rf"/api/models/{REPO}/tag/(.+)", "_tag", "write"),
    (rf"/api/models/{REPO}/refs", "_refs", "read"),
    (rf"/api/models/{REPO}/tree/([^/]+)(?:/(.+))?", "_tree", "read"),
    (rf"/api/models/{REPO}(?:/revision/(.+))?", "_info", "read"),
    (rf"/{REPO}/resolve/([^/]+)/(.+)", "_file", "read"),
]
"""Pattern of a path, method that answers, and right that it needs."""
