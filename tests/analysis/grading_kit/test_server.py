"""The server, spoken to as a browser would and as one would not: who may see and store what."""

from __future__ import annotations

import gzip
import json

import pytest

from analysis.grading import serve as serving
from analysis.grading.journal import Journal

pytest.importorskip("starlette", reason="the extra 'grading' is not installed")

from starlette.testclient import TestClient

from analysis.grading.server import grading_app


def client_of(kit, hosts=("testserver",)):
    return TestClient(grading_app(kit, list(hosts)), raise_server_exceptions=False)


@pytest.fixture
def kit(folders):
    return folders.open()


@pytest.fixture
def client(kit):
    return client_of(kit)


class Page:
    """What the page of a rater does."""

    def __init__(self, client, rater, token, session="s1"):
        self.client, self.rater, self.session = client, rater, session
        self.headers = {"Authorization": f"Bearer {token}"}

    def post(self, path, **body):
        return self.client.post(
            f"/api/{self.rater}/{path}", json={"session": self.session, **body}, headers=self.headers
        )

    def grade(self, item, value=3, structure="GTVp", identity="1", **more):
        return self.post("grades", id=identity, item=item, structure=structure, grade=value, seconds=1.0, **more)

    def get(self, path):
        return self.client.get(f"/api/{self.rater}/{path}", headers=self.headers)


@pytest.fixture
def page(client, folders):
    return Page(client, "rater-1", folders.tokens["rater-1"])


def test_signing_in_gives_the_raters_own_order_and_what_was_given(page, kit):
    code = kit.raters["rater-1"].order[3]
    assert page.grade(code, 4).status_code == 201
    assert page.post("comments", id="2", item=code, comment="ragged").status_code == 201
    state = page.post("desk").json()
    assert tuple(item["code"] for item in state["items"]) == kit.raters["rater-1"].order
    assert state["grades"][code]["GTVp"]["grade"] == 4
    assert state["comments"] == {code: "ragged"}
    assert [modality["kind"] for modality in state["modalities"]] == ["ct", "pet"]
    assert state["scale"] == list(kit.scale)


def test_whose_token(client, folders):
    for rater, token in folders.tokens.items():
        answer = client.get("/api/rater", headers={"Authorization": f"Bearer {token.lower()}"})
        assert answer.json() == {"rater": rater}


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer ABCD-EFGH", "Basic {}", "{}", "Bearer \xe4"])
@pytest.mark.parametrize("path", ["desk", "grades", "comments"])
def test_a_wrong_token_is_refused(client, folders, kit, header, path):
    token = folders.tokens["rater-1"]
    headers = {} if header is None else {"Authorization": header.format(token).encode("latin-1")}
    body = {"session": "s", "id": "1", "item": next(iter(kit.items)), "structure": "GTVp", "grade": 3}
    answer = client.post(f"/api/rater-1/{path}", json=body, headers=headers)
    assert answer.status_code == 401
    assert "token is not known" in answer.json()["error"]
    assert Journal(kit).given("rater-1").grades == {}


def test_another_raters_page_is_refused(client, folders, kit):
    page = Page(client, "rater-2", folders.tokens["rater-1"])
    code = next(iter(kit.items))
    answers = [page.post("desk"), page.grade(code), page.get(f"items/{code}/image_0.nii.gz")]
    assert [answer.status_code for answer in answers] == [403] * 3
    assert all("another rater's" in answer.json()["error"] for answer in answers)
    assert Page(client, "rater-9", folders.tokens["rater-1"]).post("desk").status_code == 403
    assert Journal(kit).given("rater-2").grades == {}


def test_images_are_those_of_the_kit(page, kit):
    for file in kit.volumes.values():
        code = kit.raters["rater-1"].order[0]
        answer = page.get(f"items/{code}/{file}")
        assert answer.content == kit.volume(code, file).read_bytes()
        # Served as what it is, a file: a browser must not unpack it by itself.
        assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "items/ZZ99/image_0.nii.gz",
        "items/{}/kit.toml",
        "items/{}/..%2F..%2Fkit.toml",
        "items/..%2F../kit.toml",
        "items/{}/",
    ],
)
def test_nothing_else_can_be_fetched(page, kit, path):
    answer = page.get(path.format(next(iter(kit.items))))
    assert answer.status_code == 404
    assert b"scale" not in answer.content


@pytest.mark.parametrize(
    "path", ["/static/../kit.toml", "/static/..%2Fserver.py", "/static/%2e%2e/server.py", "/kit.toml"]
)
def test_nothing_beside_the_page_is_served(client, path):
    assert client.get(path).status_code == 404


def test_images_need_the_token(client, kit):
    code = next(iter(kit.items))
    assert client.get(f"/api/rater-1/items/{code}/image_0.nii.gz").status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"grade": 6}, 422, "found the grade 6"),
        ({"grade": "4"}, 422, "found the grade '4'"),
        ({"structure": "liver"}, 422, "the structure 'liver'"),
        ({"item": "ZZ99"}, 422, "the item 'ZZ99'"),
        ({"id": 4}, 422, "the id"),
        ({"seconds": -4}, 422, "-4 seconds"),
        ({"session": "a b"}, 422, "session"),
        ({"session": 7}, 422, "session"),
    ],
)
def test_a_wrong_grade_is_named_and_not_stored(page, kit, body, status, words):
    right = {"id": "1", "item": next(iter(kit.items)), "structure": "GTVp", "grade": 3, "seconds": 1}
    answer = page.post("grades", **{**right, **body})
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert Journal(kit).given("rater-1").grades == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 60_000])
def test_what_is_no_grade_at_all(client, page, content):
    answer = client.post("/api/rater-1/grades", content=content, headers=page.headers)
    assert answer.status_code == 422
    assert "no grade that can be read" in answer.json()["error"]


def test_what_lacks_something(page, kit):
    answer = page.post("grades", id="1", item=next(iter(kit.items)))
    assert answer.status_code == 422
    assert answer.json()["error"] == "structure, grade, seconds is missing."


def test_too_much_is_not_read(client, page):
    answer = client.post("/api/rater-1/comments", content=b"x" * 70_000, headers=page.headers)
    assert answer.status_code == 413


def test_one_token_in_two_browsers(client, folders, kit):
    """The one that signed in last has the desk; the other is told, and loses nothing that was stored."""
    first, second = (Page(client, "rater-1", folders.tokens["rater-1"], session) for session in ("one", "two"))
    codes = list(kit.items)
    first.post("desk")
    assert first.grade(codes[0], 2).status_code == 201
    assert second.post("desk").json()["grades"][codes[0]]["GTVp"]["grade"] == 2
    refused = first.grade(codes[1], 3, identity="2")
    assert refused.status_code == 409
    assert "You signed in elsewhere at" in refused.json()["error"]
    assert first.post("comments", id="3", item=codes[0], comment="x").status_code == 409
    assert second.grade(codes[1], 5, identity="4").status_code == 201
    first.post("desk")
    assert first.grade(codes[2], 1, identity="5").status_code == 201
    grades = Journal(kit).given("rater-1").grades
    assert [grades[code, "GTVp"].grade for code in codes[:3]] == [2, 5, 1]
    assert Page(client, "rater-2", folders.tokens["rater-2"], "three").grade(codes[0]).status_code == 201


def test_after_a_restart_the_open_page_goes_on(kit, folders):
    Page(client_of(kit), "rater-1", folders.tokens["rater-1"]).post("desk")
    page = Page(client_of(kit), "rater-1", folders.tokens["rater-1"])
    assert page.grade(next(iter(kit.items))).status_code == 201


def test_no_case_name_and_no_perturbation_reaches_the_browser(page, kit, toy):
    """Everything a page can get, unpacked, against everything that the key knows."""
    answers = [page.client.get("/"), page.client.get("/grade/rater-1"), page.post("desk")]
    answers += [page.get(f"items/{code}/{file}") for code in kit.items for file in kit.volumes.values()]
    answers += [page.grade(next(iter(kit.items)))]
    for answer in answers:
        assert answer.status_code in (200, 201)
        content = answer.content
        content += gzip.decompress(content) if content[:2] == b"\x1f\x8b" else b""
        content += json.dumps(dict(answer.headers)).encode()
        for secret in [*toy.cases, "spike", "noise", "CHU", str(kit.path)]:
            assert secret.encode() not in content


def test_a_full_disk_is_named_and_can_be_tried_again(folders, tmp_path, mount_at):
    kit = folders.open()
    mount_at(kit.path / "grades", "size=16k")
    page = Page(client_of(kit), "rater-1", folders.tokens["rater-1"])
    code = next(iter(kit.items))
    filler = kit.path / "grades" / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 10**5)
    refused = page.post("comments", id="1", item=code, comment="x" * 4000)
    assert refused.status_code == 507
    assert "No space" in refused.json()["error"]
    filler.unlink()
    assert page.post("comments", id="1", item=code, comment="x" * 4000).status_code == 201


def test_headers_let_nothing_in_or_out(client):
    for path in ("/", "/grade/rater-1", "/static/grading.js", "/api/rater", "/nowhere"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "http" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers


def test_a_site_under_another_name_is_refused(kit, folders):
    """A page of the network that resolves to this machine (DNS rebinding) carries its own name."""
    client = client_of(kit, ["localhost"])
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "localhost:8765"}).status_code == 200


def test_wrong_methods_and_places(client):
    assert client.get("/api/rater-1/grades").status_code == 405
    assert client.get("/nowhere").json() == {"error": "Not Found"}


def test_the_page_names_no_other_host():
    """Nothing from the network: no file of the page loads anything by a full address."""
    for file in serving.STATIC.glob("*.*"):
        text = file.read_text(encoding="utf-8")
        assert "http://" not in text
        assert "https://" not in text
