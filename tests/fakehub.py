"""A Hub in this process that holds models in memory: enough of its endpoints for uploads by transformers and huggingface_hub."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE = (".safetensors", ".parquet", ".bin")
"""Endings of files that are uploaded apart from their commit."""


class FakeHub:
    """The server. `files` maps each repository to its files: path → content.

    Use it as a context manager, with `HF_ENDPOINT` set to `url` in a fresh process: huggingface_hub reads it when it is imported.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: object) -> dict[str, str]:
        """Variables with which a fresh process talks to this Hub; `home` is its folder of downloads."""
        own = {"HF_ENDPOINT": self.url, "HF_TOKEN": "hf_fake", "HF_HUB_DISABLE_XET": "1"}
        return {**own, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


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

    def _missing(self, kind: str) -> None:
        self._send(404, {"error": kind}, X_Error_Code=kind, X_Error_Message=kind)

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
        body = self._body()
        for pattern, name in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                getattr(self, name)(body, *match.groups())
                return
        self._missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _whoami(self, body: bytes) -> None:
        self._send(200, {"type": "user", "name": "tester", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def _valid(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        self.hub.files.setdefault(repo, {})
        self._send(200, {"url": f"{self.hub.url}/{repo}", "name": repo, "id": "0"})

    def _preupload(self, body: bytes, repo: str) -> None:
        files = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None})
        self._send(200, {"files": files})

    def _batch(self, body: bytes, repo: str) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}
            objects.append({"oid": one["oid"], "size": one["size"], "actions": {"upload": upload}})
        self._send(200, {"transfer": "basic", "objects": objects})

    def _upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self._send(200, b"")

    def _commit(self, body: bytes, repo: str) -> None:
        for line in filter(None, body.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.hub.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.hub.files[repo][value["path"]] = self.hub.large[value["oid"]]
        oid = self._revision(repo)
        self._send(
            200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "hookOutput": ""}
        )

    def _revision(self, repo: str) -> str:
        names = json.dumps(sorted(self.hub.files[repo]))
        return hashlib.sha1(names.encode(), usedforsecurity=False).hexdigest()

    def _info(self, body: bytes, repo: str) -> None:
        if repo not in self.hub.files:
            self._missing("RepoNotFound")
            return
        names = [{"rfilename": name} for name in sorted(self.hub.files[repo])]
        self._send(200, {"_id": "0", "id": repo, "sha": self._revision(repo), "tags": [], "siblings": names})

    def _file(self, body: bytes, repo: str, name: str) -> None:
        content = self.hub.files.get(repo, {}).get(name)
        if content is None:
            self._missing("EntryNotFound" if repo in self.hub.files else "RepoNotFound")
            return
        tag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        self._send(200, content, X_Repo_Commit=self._revision(repo), ETag=f'"{tag}"')


REPO = "([^/]+/[^/]+)"
ROUTES = [
    (r"/api/whoami-v2", "_whoami"),
    (r"/api/validate-yaml", "_valid"),
    (r"/api/repos/create", "_create"),
    (rf"/api/models/{REPO}/preupload/.+", "_preupload"),
    (rf"/{REPO}\.git/info/lfs/objects/batch", "_batch"),
    (r"/lfs/([0-9a-f]{64})", "_upload"),
    (rf"/api/models/{REPO}/commit/.+", "_commit"),
    (rf"/api/models/{REPO}(?:/revision/.+)?", "_info"),
    (rf"/{REPO}/resolve/[^/]+/(.+)", "_file"),
]
