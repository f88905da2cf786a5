"""A collection with hostile names and values, and a real server and browser for it."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from bird_photos import save_baseline, save_untrained
from browser import system_chromium
from hostile_birds import HOSTILE, write_collection

from concepthash_hf import ConceptHasher
from concepthash_hf.app.explorer import Explorer
from concepthash_hf.app.photos import ServedPhotos
from concepthash_hf.app.server import make_app
from concepthash_hf.photo_index import PhotoIndex


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    index: PhotoIndex
    photos: Path


@pytest.fixture(scope="session")
def hasher(tmp_path_factory) -> ConceptHasher:
    return ConceptHasher(save_untrained(tmp_path_factory.mktemp("model") / "untrained"), "cpu")


@pytest.fixture(scope="session")
def collection(tmp_path_factory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection") / "birds")


@pytest.fixture(scope="session")
def index(hasher, collection) -> PhotoIndex:
    return hasher.index(collection)


@pytest.fixture(scope="session")
def baseline_index(collection, tmp_path_factory) -> PhotoIndex:
    """Of a model of another method, whose codes have no concepts."""
    return ConceptHasher(save_baseline(tmp_path_factory.mktemp("baseline") / "csq"), "cpu").index(collection)


@pytest.fixture(scope="session")
def explorer(index, tmp_path_factory) -> Iterator[Explorer]:
    explorer = Explorer(index, ServedPhotos(index, tmp_path_factory.mktemp("cache")))
    yield explorer
    explorer.close()


@pytest.fixture(scope="session")
def serve_index(tmp_path_factory) -> Iterator[Callable[[PhotoIndex], str]]:
    """Serves an index on a free port, until the tests are over; gives the address."""
    servers = []

    def start(index: PhotoIndex) -> str:
        app = make_app(index, tmp_path_factory.mktemp("cache"), title=HOSTILE)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread, app))
        while not server.started:
            assert thread.is_alive(), "the server has died"
            time.sleep(0.05)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

    yield start
    for server, thread, app in servers:
        server.should_exit = True
        thread.join(30)
        app.state.explorer.close()


@pytest.fixture(scope="session")
def served(serve_index, index, collection) -> Served:
    return Served(serve_index(index), index, collection)


@pytest.fixture(scope="session")
def served_baseline(serve_index, baseline_index, collection) -> Served:
    return Served(serve_index(baseline_index), baseline_index, collection)


@pytest.fixture(scope="session")
def client(served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def chromium():
    """Chromium of the system, driven by playwright, which downloads none."""
    binary = system_chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()
