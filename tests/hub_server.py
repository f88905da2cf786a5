"""A small Hub: as much of the Hugging Face Hub's HTTP interface as its real client needs, over real sockets.

Repositories with branches, commits and private ones; uploads through git-LFS, downloads with redirects to a storage
host and byte ranges. Everything is kept in memory.
"""

import base64
import fnmatch
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

USER = "someone"
TOKEN = "hf_only_the_test_knows_it"


@dataclass
class Commit:
    """A revision: all files by path, and what was said about it."""

    oid: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    """A model repository."""

    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", "initial commit", {".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, branch: str, message: str, files: dict[str, bytes]) -> Commit:
        oid = hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()
        self.commits.append(Commit(oid, message, files))
        self.branches[branch] = oid
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """A branch or a commit's id."""
        oid = self.branches.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)


class HubServer:
    """The Hub, listening on a free port until it is closed.

    Attributes:
        repos: by `namespace/name`.
        requests: method and path of all that was asked, in order.
        cut_uploads_at: bytes of a large file after which an upload breaks off; None for never.
        cut: set when one was broken off.
        cut_downloads_at: the same for one download, which is then forgotten.
        quota: bytes above which a large file is refused; None for no limit.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # large files by sha256
        self.requests: list[str] = []
        self.cut_uploads_at: int | None = None
        self.cut = threading.Event()
        self.cut_downloads_at: int | None = None
        self.quota: int | None = None
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.storage_url = f"http://localhost:{port}"  # another host to the client, as the Hub's storage is
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, repo_id: str, folder: Path) -> Commit:
        """Put the files of a folder into a repository, as if somebody had published them."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.stored |= {_oid(name, content): content for name, content in files.items() if _is_large(name)}
        return self.repos.setdefault(repo_id, Repo()).commit("main", "somebody's", files)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, pattern: str) -> list[str]:
        """The requests that fit a shell pattern, e.g. `POST */commit/*`."""
        return [request for request in self.requests if fnmatch.fnmatchcase(request, pattern)]


class _Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[HubServer]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        try:
            for methods, pattern, action in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in methods.split():
                    return action(self, **match.groupdict())
            self._body()
            raise _Refused(404, f"this Hub knows no {self.command} {path}")
        except _Refused as refused:
            headers = {"X-Error-Message": str(refused)}
            if refused.code:
                headers["X-Error-Code"] = refused.code
            self._send(json.dumps({"error": str(refused)}).encode(), refused.status, headers)
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True  # the client has gone

    # --- what is asked and what is said

    def _chunks(self) -> Iterator[bytes]:
        """The body of the request, piece by piece, whether its length was announced or not."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(left, 4096))
            if not chunk:
                raise ConnectionError("the client has gone")
            left -= len(chunk)
            yield chunk

    def _body(self) -> bytes:
        return b"".join(self._chunks())

    def _json(self) -> Any:
        return json.loads(self._body())

    def _send(self, body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), headers={"Content-Type": "application/json"})

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    @property
    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _must_be_known(self) -> None:
        if not self._is_known:
            raise _Refused(401, "Invalid username or password.")

    def _repo(self, repo_id: str) -> Repo:
        """As on the Hub, a private repository and one that is not there look the same to a stranger."""
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and not self._is_known):
            raise _Refused(404 if self._is_known else 401, "Repository not found", "RepoNotFound")
        return repo

    def _commit(self, repo_id: str, revision: str | None) -> Commit:
        commit = self._repo(repo_id).at(revision or "main")
        if commit is None:
            raise _Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # --- the interface

    def who_am_i(self) -> None:
        self._must_be_known()
        self._send_json({"type": "user", "name": USER, "orgs": []})

    def create_repo(self) -> None:
        wanted = self._json()
        self._must_be_known()
        namespace = wanted.get("organization") or USER
        if namespace != USER:
            raise _Refused(403, f"You don't have the rights to create a model under the namespace {namespace!r}")
        repo_id = f"{namespace}/{wanted['name']}"
        known = repo_id in self.hub.repos
        self.hub.repos.setdefault(repo_id, Repo(private=wanted.get("visibility") == "private"))
        content = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id, "id": repo_id}
        self._send(json.dumps(content).encode(), 409 if known else 200)

    def model_info(self, repo_id: str, revision: str | None = None) -> None:
        commit = self._commit(repo_id, revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        private = self.hub.repos[repo_id].private
        self._send_json(
            {
                "id": repo_id,
                "modelId": repo_id,
                "sha": commit.oid,
                "private": private,
                "tags": [],
                "siblings": siblings,
            }
        )

    def tree(self, repo_id: str, revision: str, folder: str | None = None) -> None:
        files = self._commit(repo_id, revision).files
        below = {path: content for path, content in files.items() if path.startswith(f"{folder}/" if folder else "")}
        if not below:
            raise _Refused(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
        self._send_json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": _oid(path, content)}
                for path, content in below.items()
            ]
        )

    def create_branch(self, repo_id: str, branch: str) -> None:
        self._body()
        self._must_be_known()
        repo = self._repo(repo_id)
        repo.branches.setdefault(branch, repo.branches["main"])
        self._send_json({})

    def validate_yaml(self) -> None:
        """Knows less about metadata than the Hub: that they are there, between two lines of ---."""
        if not re.match(r"---\n.+?\n---\n", self._json()["content"], re.DOTALL):
            raise _Refused(400, "no metadata")
        self._send_json({"errors": [], "warnings": []})

    def preupload(self, repo_id: str, revision: str) -> None:
        wanted = self._json()["files"]
        self._must_be_known()
        there = self._commit(repo_id, revision).files
        self._send_json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                        "shouldIgnore": False,
                        "oid": _oid(file["path"], there[file["path"]]) if file["path"] in there else None,
                    }
                    for file in wanted
                ]
            }
        )

    def lfs_batch(self, repo_id: str) -> None:
        wanted = self._json()["objects"]
        self._must_be_known()
        self._repo(repo_id)
        answer = []
        for large in wanted:
            actions = (
                {}
                if large["oid"] in self.hub.stored
                else {
                    "actions": {
                        "upload": {"href": f"{self.hub.storage_url}/storage/{large['oid']}"},
                        "verify": {"href": f"{self.hub.url}/api/verify"},
                    }
                }
            )
            answer.append({"oid": large["oid"], "size": large["size"], **actions})
        self._send_json({"transfer": "basic", "objects": answer})

    def store(self, oid: str) -> None:
        content = bytearray()
        for chunk in self._chunks():
            content += chunk
            if self.hub.cut_uploads_at is not None and len(content) >= self.hub.cut_uploads_at:
                self._hang_up()
                self.hub.cut.set()
                return
        if self.hub.quota is not None and len(content) > self.hub.quota:
            raise _Refused(403, "storage limit reached")
        if hashlib.sha256(content).hexdigest() != oid:
            raise _Refused(400, "the content is not what was announced")
        self.hub.stored[oid] = bytes(content)
        self._send()

    def verify(self) -> None:
        announced = self._json()
        if len(self.hub.stored.get(announced["oid"], b"")) != announced["size"]:
            raise _Refused(400, "was not stored whole")
        self._send_json({})

    def commit(self, repo_id: str, revision: str) -> None:
        lines = [json.loads(line) for line in self._body().splitlines()]
        self._must_be_known()
        files = dict(self._commit(repo_id, revision).files)
        message = ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        new = self.hub.repos[repo_id].commit(revision, message, files)
        url = f"{self.hub.url}/{repo_id}/commit/{new.oid}"
        self._send_json({"success": True, "commitOid": new.oid, "commitUrl": url, "hookOutput": ""})

    def resolve(self, repo_id: str, revision: str, file: str) -> None:
        commit = self._commit(repo_id, revision)
        headers = {"X-Repo-Commit": commit.oid}
        if file not in commit.files:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        content = commit.files[file]
        headers["ETag"] = f'"{_oid(file, content)}"'
        if not _is_large(file):
            return self._send(content, headers=headers)
        oid = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        self._send(status=302, headers=headers | {"Location": f"{self.hub.storage_url}/storage/{oid}"})

    def fetch(self, oid: str) -> None:
        content = self.hub.stored[oid]
        if self.headers.get("Authorization"):
            raise _Refused(400, "the token is not for the storage host")
        headers, status, first = {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}, 200, 0
        if (wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) is not None:
            first = int(wanted[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            status = 206
        if self.hub.cut_downloads_at is None or self.command == "HEAD":
            return self._send(content[first:], status, headers)
        end, self.hub.cut_downloads_at = self.hub.cut_downloads_at, None
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content) - first), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[first:end])
        self.wfile.flush()
        self._hang_up()


def _is_large(path: str) -> bool:
    """What goes through LFS; the Hub decides by .gitattributes and by looking at the content."""
    return path.endswith((".safetensors", ".png"))


def _oid(path: str, content: bytes) -> str:
    """How a file is told from another version of it: the sha256 of a large one, git's id of a small one."""
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_REPO = r"(?P<repo_id>[^/]+/[^/]+)"
_MODEL = rf"/api/models/{_REPO}"
_REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", r"/api/whoami-v2", _Handler.who_am_i),
    ("POST", r"/api/repos/create", _Handler.create_repo),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("POST", r"/api/verify", _Handler.verify),
    ("GET", rf"{_MODEL}(/revision/{_REVISION})?", _Handler.model_info),
    ("GET", rf"{_MODEL}/tree/{_REVISION}(/(?P<folder>.+))?", _Handler.tree),
    ("POST", rf"{_MODEL}/branch/(?P<branch>.+)", _Handler.create_branch),
    ("POST", rf"{_MODEL}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", rf"{_MODEL}/commit/{_REVISION}", _Handler.commit),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/storage/(?P<oid>\w+)", _Handler.store),
    ("GET HEAD", r"/storage/(?P<oid>\w+)", _Handler.fetch),
    ("GET HEAD", rf"/{_REPO}/resolve/{_REVISION}/(?P<file>.+)", _Handler.resolve),
]
