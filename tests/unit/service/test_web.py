"""Who may come in, how much they may bring, and what is there beside the API."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobs.runs.reports import folder_of, page_of
from minimind.network.model import MiniMind
from minimind.text.tokenizer import Tokenizer
from service import web
from tests import taught
from tests.unit.service.conftest import SETTINGS, Served, serving

KEY = "a-key-for-tests"


@pytest.fixture
def keyed(home: Path) -> Iterator[Served]:
    """A server that asks for a key."""
    with serving(SETTINGS.model_copy(update={"api_key": KEY})) as there:
        yield there


def test_the_page_and_its_files_say_what_they_may_do(served: Served) -> None:
    page = httpx.get(served.address)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for file in web.UI.iterdir():
        there = httpx.get(f"{served.address}/ui/{file.name}")
        assert there.content == file.read_bytes()
        assert there.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/ui/", "/ui/nothing.js", "/ui/..%2fweb.py", "/ui/../web.py", "/ui/%2e%2e/web.py"):
        assert httpx.get(served.address + path).status_code == 404


def test_health_and_numbers(served: Served) -> None:
    served.client.chat.completions.create(
        model="taught", messages=[{"role": "user", "content": taught.CAPITAL}], temperature=0
    )
    assert httpx.get(f"{served.address}/healthz").json() == {"status": "ok", "models": ["taught@10"]}
    numbers = httpx.get(f"{served.address}/metrics")
    assert numbers.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in (
        'minimind_http_responses_total{path="/v1/chat/completions",status="200"} 1.0',
        "minimind_http_requests_open 1.0",
        'minimind_completion_tokens_total{model="taught"}',
        'minimind_first_token_seconds_count{model="taught"} 1.0',
        'minimind_model_bytes{model="taught@10",replica="local"}',
        'minimind_sequences_running{model="taught@10",replica="local"} 0.0',
    ):
        assert line in numbers.text
    assert "_created" not in numbers.text


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY} x", f"Bearer  {KEY[:-1]}"]
)
def test_without_the_key_there_is_only_the_page(keyed: Served, sent: str) -> None:
    headers = [(b"Authorization", sent.encode())] if sent else []
    for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
        refused = httpx.get(keyed.address + path, headers=headers)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert refused.json()["error"]["code"] == "invalid_api_key"
    for path in ("/", "/ui/index.html", "/healthz"):
        assert httpx.get(keyed.address + path, headers=headers).status_code == 200


def test_the_key_opens_the_door_to_every_host(keyed: Served) -> None:
    headers = {b"Authorization": f"bearer {KEY}".encode(), b"Host": b"elsewhere.example"}
    assert httpx.get(f"{keyed.address}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "10.0.0.1", "", "[::2]:80", "127.0.0.1.evil.example"]
)
def test_without_a_key_only_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    refused = httpx.get(f"{served.address}/v1/models", headers={"Host": host})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_needed")
    assert "MINIMIND_API_KEY" in refused.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "127.0.0.1", "127.5.5.5:1", "[::1]:8000"])
def test_names_of_this_machine_are_answered(served: Served, host: str) -> None:
    assert httpx.get(f"{served.address}/v1/models", headers={"Host": host}).status_code == 200


def test_a_body_has_a_limit(served: Served) -> None:
    def pieces() -> Iterator[bytes]:  # no Content-Length
        for _ in range(web.MAX_BODY_BYTES // 2**20 + 1):
            yield b" " * 2**20

    for body in (b" " * (web.MAX_BODY_BYTES + 1), pieces()):
        refused = httpx.post(f"{served.address}/v1/chat/completions", content=body)
        assert refused.status_code == 413
        assert f"{web.MAX_BODY_BYTES} bytes" in refused.json()["error"]["message"]


def test_a_server_without_models_says_how_to_get_one(home: Path, known_by_heart: tuple[MiniMind, Tokenizer]) -> None:
    with serving() as there:
        assert httpx.get(f"{there.address}/v1/models").json() == {"object": "list", "data": []}
        reply = httpx.post(
            f"{there.address}/v1/chat/completions",
            json={"model": "any", "messages": [{"role": "user", "content": "hi"}]},
        )
        assert reply.status_code == 404
        assert "minimind train" in reply.json()["error"]["message"]


def test_only_who_has_the_key_is_told_what_is_in_memory(keyed: Served) -> None:
    assert httpx.get(f"{keyed.address}/healthz").json() == {"status": "ok"}
    told = httpx.get(f"{keyed.address}/healthz", headers={"Authorization": f"Bearer {KEY}"})
    assert told.json() == {"status": "ok", "models": []}


@pytest.mark.parametrize(
    "path", ["/", "/ui/main.js", "/healthz", "/metrics", "/v1/models", "/v1/models/taught", "/nothing"]
)
def test_head_is_get_without_the_body(served: Served, path: str) -> None:
    got, head = httpx.get(served.address + path), httpx.head(served.address + path)
    assert head.status_code == got.status_code
    assert head.content == b""
    same = ("Content-Type", "Content-Security-Policy", *(() if path == "/metrics" else ("Content-Length",)))
    assert [head.headers.get(name) for name in same] == [got.headers.get(name) for name in same]
    command = ["curl", "-sIo", "/dev/null", "-w", "%{http_code}", served.address + path]
    curl = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert int(curl.stdout) == got.status_code


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via", "CF-Connecting-IP"],
)
def test_without_a_key_nobody_is_answered_through_a_proxy(served: Served, keyed: Served, header: str) -> None:
    """A proxy on this machine has a loopback address and, by default, sends a Host that is one."""
    refused = httpx.get(f"{served.address}/v1/models", headers={header: "203.0.113.9"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_needed")
    assert header.lower() in refused.json()["error"]["message"]
    through = httpx.get(f"{keyed.address}/v1/models", headers={header: "x", "Authorization": f"Bearer {KEY}"})
    assert through.status_code == 200


def test_pages_of_other_sites_are_not_answered(served: Served) -> None:
    ask = {"model": "taught", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {"Sec-Fetch-Site": site}
        assert httpx.post(f"{served.address}/v1/chat/completions", json=ask, headers=headers).status_code == status
        assert httpx.get(f"{served.address}/v1/models", headers=headers).status_code == status
        assert httpx.get(served.address, headers=headers).status_code == 200  # a link on another site leads here


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_that_a_form_could_send_is_refused(served: Served, kind: str | None) -> None:
    body = b'{"model": "taught", "messages": [{"role": "user", "content": "hi"}]}'
    headers = {} if kind is None else {"Content-Type": kind}
    refused = httpx.post(f"{served.address}/v1/chat/completions", content=body, headers=headers)
    assert refused.status_code == 400
    assert "Content-Type: application/json" in refused.json()["error"]["message"]


def test_streams_are_not_kept_by_a_proxy(served: Served) -> None:
    ask = {"model": "taught", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "stream": True}
    headers = httpx.post(f"{served.address}/v1/chat/completions", json=ask).headers
    assert (headers["X-Accel-Buffering"], headers["Cache-Control"]) == ("no", "no-store")


@pytest.fixture
def reported(home: Path) -> Path:
    """A report on disk, as an evaluation leaves one; beside it one that is not whole."""
    folder = folder_of("base@9", "talk@8")
    folder.mkdir(parents=True)
    for lang in ("en", "zh"):
        page_of(folder, lang).write_text(f"<!doctype html><p>{lang}", "utf-8")
    (folder / "report.json").write_text('{"a": "base@9", "b": "talk@8", "time": 1.0}', "utf-8")
    for name, facts in (
        ("odd", '{"a": "x", "b": "\\ud800", "time": 1}'),
        ("nan", '{"a": "x", "b": "y", "time": 1e999}'),
    ):
        (folder.parent / name).mkdir()
        (folder.parent / name / "report.json").write_text(facts, "utf-8")
    (folder.parent / "half").mkdir()
    (folder.parent / "half" / "report.json").write_text('{"a": "x", "b": "half", "time": 1}', "utf-8")
    (folder.parent / "half" / "report.en.html").write_text("half", "utf-8")
    return folder


def test_reports_are_listed_and_read(served: Served, reported: Path) -> None:
    assert httpx.get(f"{served.address}/reports").json() == {
        "reports": [{"name": "talk@8-vs-base@9", "a": "base@9", "b": "talk@8", "time": 1.0}]
    }
    page = httpx.get(f"{served.address}/reports/talk@8-vs-base@9/zh")
    assert page.text == "<!doctype html><p>zh"
    assert page.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    for wrong in ("half/en", "talk@8-vs-base@9/fr", "../runs/en", "..%2freports%2fhalf/en", "%2e%2e/en", "nothing/en"):
        assert httpx.get(f"{served.address}/reports/{wrong}").status_code in (400, 404, 422), wrong


def test_reports_need_the_key_which_a_link_cannot_bring(keyed: Served, reported: Path) -> None:
    page = f"{keyed.address}/reports/talk@8-vs-base@9/en"
    assert httpx.get(page).status_code == 401
    assert httpx.get(f"{keyed.address}/reports").status_code == 401
    with httpx.Client() as browser:
        assert browser.get(f"{keyed.address}/reports", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        assert browser.get(page).text == "<!doctype html><p>en"
        for path in ("/reports", "/v1/models", "/metrics"):  # it opens reports, and nothing else
            assert browser.get(keyed.address + path).status_code == 401
        assert KEY not in str(browser.cookies)
    for wrong in ("", "x", KEY, "é"):
        assert httpx.get(page, headers=[(b"Cookie", f"minimind_reports={wrong}".encode())]).status_code == 401
