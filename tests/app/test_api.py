"""The interface for programs, through a real server."""

import base64
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from bird_photos import NAMES
from hostile_birds import HOSTILE
from PIL import Image

from concepthash_hf.app.explorer import Query
from concepthash_hf.app.server import MOST_BODY
from concepthash_hf.explain.figure_parts import zeros_and_ones


@pytest.fixture(scope="module")
def photo(served) -> bytes:
    return (served.photos / NAMES[1] / "3.png").read_bytes()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_encode(client, hasher, photo):
    expected = hasher.encode(photo)[0].tolist()
    answer = client.post("encode", json={"photo": base64_of(photo)}).json()
    assert answer["code"] == expected
    sub_codes = hasher.encode(photo, output="sub_codes")[0]
    assert answer["sub_codes"] == [zeros_and_ones(bits) for bits in sub_codes]
    assert client.post("encode", json={"words": "owl"}).json()["code"] == hasher.encode_names("owl")[0].tolist()
    assert client.post("encode", json={"id": f"{NAMES[1]}/3.png"}).json()["code"] == expected


def test_search(client, explorer, photo, served):
    asked = {
        "photo": base64_of(photo),
        "k": 5,
        "offset": 2,
        "concept_weights": [1, 0.5, 0],
        "where": {"note": HOSTILE},
    }
    answer = client.post("search", json=asked).json()
    reading = explorer.indexed(f"{NAMES[1]}/3.png")
    page = explorer.search(Query(reading, (1.0, 0.5, 0.0), {"note": HOSTILE}), 2, 5)
    assert answer["among"] == page.among < 40
    for hit, found in zip(answer["hits"], page.found, strict=True):
        assert (hit["id"], hit["distance"]) == (found.id, found.distance)
        assert hit["concept_distances"] == list(found.concept_distances)
        assert hit["metadata"] == found.row
        picture = Image.open(BytesIO(client.get(hit["thumbnail"]).content))
        assert picture.format == "JPEG"
    assert answer["nothing_near"] is None


def test_words_that_are_near_nothing(client, index, monkeypatch):
    for radius, is_far in ((-1, True), (12, False), (None, None)):
        monkeypatch.setitem(index.__dict__, "word_radius", radius)
        assert client.post("search", json={"words": "owl"}).json()["nothing_near"] is is_far


def test_a_mixture(client, explorer):
    one, other = f"{NAMES[1]}/3.png", f"{NAMES[4]}/1.png"
    asked = {"id": one, "other": {"id": other}, "concepts_of_other": [1], "k": 40}
    mixed = explorer.indexed(one).mixed(explorer.indexed(other), [False, True, False])
    expected = explorer.search(Query(mixed), 0, 40)
    answer = client.post("search", json=asked).json()
    assert [hit["distance"] for hit in answer["hits"]] == [found.distance for found in expected.found]


def test_explain(client, hasher, photo, served):
    other = served.photos / NAMES[4] / "1.png"
    answer = client.post(
        "explain", json={"photo": base64_of(photo), "other": {"photo": base64_of(other.read_bytes())}}
    )
    match = hasher.match(photo, other)
    assert answer.json()["distance"] == match.distance
    assert answer.json()["concept_distances"] == match.distances.tolist()
    for side, explained in (("this", match.query), ("other", match.match)):
        for look, concept in zip(answer.json()[side]["concepts"], explained.concepts, strict=True):
            np.testing.assert_allclose(look["attention"], concept.attention, atol=1e-4)
            assert look["sub_code"] == concept.sub_code
            left, top, right, bottom = look["box"]
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
    words = client.post("explain", json={"words": "owl"}).json()
    assert words["this"]["concepts"][0]["attention"] is None and words["other"] is None
    assert "not a proof" in words["proves"]


def test_a_model_without_concepts(served_baseline, photo):
    asked = {"photo": base64_of(photo)}
    with httpx.Client(base_url=served_baseline.url, timeout=120) as client:
        found = client.post("search", json={**asked, "k": 5}).json()["hits"]
        assert [hit["distance"] for hit in found] == [hit.distance for hit in served_baseline.index.search(photo, k=5)]
        for one in (asked, {"id": found[0]["id"]}, {**asked, "other": asked}):
            answer = client.post("explain", json=one)
            assert answer.status_code == 422 and "its codes have no concepts" in answer.text


def test_health_and_documentation(client):
    health = client.get("health").json()
    assert health["status"] == "ok" and health["photos"] == 40 and (health["bits"], health["concepts"]) == (12, 3)
    assert {"/encode", "/search", "/explain", "/health"} <= client.get("openapi.json").json()["paths"].keys()
    assert client.get("docs").status_code == 200


@pytest.mark.parametrize(
    ("path", "asked", "error"),
    [
        ("encode", {}, "give one of photo, words and id"),
        ("encode", {"words": "owl", "id": 3}, "give one of photo, words and id"),
        ("encode", {"words": "owl", "color": 3}, "Extra inputs"),
        ("encode", {"words": " "}, "words have 1 to 200 letters"),
        ("encode", {"id": "nobody"}, "not in the index: 'nobody'"),
        ("encode", {"id": 3}, "ids of this index are strings"),
        ("encode", {"photo": "%%%"}, "not a photo"),
        ("encode", {"photo": base64_of(b"no photo")}, "not a photo that can be read"),
        ("search", {"words": "owl", "k": 0}, "greater than or equal to 1"),
        ("search", {"words": "owl", "k": 10**9}, "less than or equal to 1000"),
        ("search", {"words": "owl", "concept_weights": [1]}, "3 concepts|one for each|weights"),
        ("search", {"words": "owl", "concept_weights": [0, 0, 0]}, "zero|0"),
        ("search", {"words": "owl", "where": {"colour": "red"}}, "no column 'colour'"),
        ("search", {"words": "owl", "where": {"habitat": 3}}, "habitat is of .*string"),
        ("search", {"words": "owl", "other": {"words": "jay"}, "concepts_of_other": [3]}, "numbered from 0 to 2"),
        ("search", {"words": "owl", "concepts_of_other": [1]}, "other and concepts_of_other together"),
        ("search", {"words": "owl", "other": {"words": "jay"}}, "other and concepts_of_other together"),
    ],
)
def test_what_is_refused(client, path, asked, error):
    answer = client.post(path, json=asked)
    assert answer.status_code == 422, answer.text
    assert len(answer.text) < 600

    assert re.search(error, answer.text), answer.text


def test_words_that_are_no_text(client):
    answer = client.post("search", content=rb'{"words": "\ud800"}', headers={"content-type": "application/json"})
    assert answer.status_code == 422 and "words are Unicode text" in answer.text


def test_a_wrong_request_is_not_sent_back(client):
    asked = {"photo": "A" * 10**6, "words": "both"}
    assert len(client.post("encode", json=asked).content) < 1000


class TestLimits:
    def test_a_body_that_says_it_is_too_large_is_not_read(self, client):
        head = f"POST /encode HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MOST_BODY + 1}\r\n\r\n"
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
            connection.sendall(head.encode())
            assert b" 413 " in connection.recv(1000).split(b"\r\n")[0]

    @pytest.mark.parametrize("path", ["encode", "search", "explain", "gradio_api/queue/join"])
    def test_a_body_that_does_not_say_how_large_it_is(self, client, path):
        def parts():
            for _ in range(MOST_BODY // 2**20 + 2):
                yield b" " * 2**20

        answer = client.post(path, content=parts(), headers={"content-type": "application/json"})
        assert answer.status_code == 413 and "more than 33 MB" in answer.text

    def test_a_body_that_never_comes(self, serve_slowly):
        with socket.create_connection(serve_slowly, timeout=30) as connection:
            connection.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            start = time.monotonic()
            assert b" 408 " in connection.recv(1000).split(b"\r\n")[0]
            assert time.monotonic() - start < 20

    @pytest.fixture
    def serve_slowly(self):
        """A server of bodies that have half a second."""
        import threading

        import uvicorn
        from fastapi import FastAPI

        from concepthash_hf.app.limits import LimitedBodies

        app = FastAPI()
        app.add_middleware(LimitedBodies, most_bytes=1000, seconds=0.5)

        @app.post("/x")
        def take(body: dict) -> dict:
            return body

        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[:2]
        server.should_exit = True
        thread.join(30)


class TestOnlyTheCollection:
    @pytest.mark.parametrize(
        "id",
        [
            '"../secret.png"',
            '"/etc/passwd"',
            '"metadata.csv"',
            "null",
            "[]",
            "[" * 2000,
            "{}",
            "true",
            "1",
            "x",
            '"\\u0000"',
        ],
    )
    def test_thumbnails(self, client, id):
        assert client.get(f"thumbnail?id={quote(id)}").status_code == 404

    def test_gradio_serves_no_files(self, client, served):
        photo = served.photos / NAMES[1] / "3.png"
        for path in ("/etc/passwd", str(photo), f"{served.photos}/../birds/{NAMES[1]}/3.png", "setup.cfg"):
            for route in ("gradio_api/file=", "file=", "gradio_api/file/", "static/", "gradio_api/proxy="):
                answer = client.get(route + quote(path))
                assert answer.status_code in (400, 403, 404, 405), (route, path, answer.status_code)

    @pytest.mark.parametrize("where", ["queue/join", "run/predict", "run/_first_words"])
    @pytest.mark.parametrize("name", ["path", "\\u0070ath"])
    def test_no_event_names_a_file(self, client, served, where, name):
        """gradio would read, or fetch, what a visitor calls an uploaded file, for any of its components."""
        photo = str(served.photos / NAMES[1] / "3.png")
        for place in (photo, "http://127.0.0.1:1/secret.png"):
            file = f'{{"{name}": "{place}", "meta": {{"_type": "gradio.FileData"}}}}'
            asked = f'{{"data": [null, [{file}]], "fn_index": 3, "session_hash": "x"}}'
            answer = client.post(f"gradio_api/{where}", content=asked, headers={"content-type": "application/json"})
            assert answer.status_code == 403 and answer.json() == {"detail": "this page takes no files"}

    @pytest.mark.parametrize("content", ["no JSON", "[" * 10**5])
    def test_events_that_are_no_json(self, client, content):
        assert client.post("gradio_api/queue/join", content=content).status_code == 403

    @pytest.mark.parametrize("route", ["upload", "component_server", "stream/x/y", "call/_show", "queue/../upload"])
    def test_what_the_page_does_not_need_is_closed(self, client, route):
        answer = client.post(f"gradio_api/{route}", files={"files": ("x.html", b"<script>alert(1)</script>")})
        assert answer.status_code == 403


def test_eight_clients_get_their_own_answers(client, hasher, served):
    """A small version of examples/benchmarks/serve_speed.py."""
    files = sorted(served.photos.rglob("*.png"))
    expected = dict(zip(files, hasher.encode(files).tolist(), strict=True))
    asked = [file for _ in range(2) for file in files]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda file: client.post("encode", json={"photo": base64_of(file.read_bytes())}), asked)
        )
    assert all(answer.status_code == 200 for answer in answers)
    assert [answer.json()["code"] for answer in answers] == [expected[file] for file in asked]
