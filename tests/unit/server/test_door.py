"""Nobody gets in without the token, from another page, under another name, or with too much."""

import json
import socket

import pytest

from cocuyo.server.web import MAX_BODY_BYTES

ROIS = "api/results/r1/changes"
EDITS = "api/results/r1/edits"


def refused(answer, status):
    assert answer.status == status
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"error"}
    return answer.json["error"]


def test_who_knows_the_token_gets_the_page_and_what_it_needs(client):
    page = client.get("")
    assert page.status == 200
    assert "text/html" in page.headers["Content-Type"]
    for name in ("page/main.js", "page/theme.css"):
        assert client.get(name).status == 200
    assert client.get(ROIS).json["version"] > 0


@pytest.mark.parametrize("token", ["", "x", "a" * 32, "..", "%2e%2e"])
def test_another_token_opens_nothing(client, token):
    message = refused(client.get(ROIS, token=token), 403)
    assert client.server.token not in message


def test_two_servers_have_two_tokens(client, serve):
    other = serve(client.server.answer)
    assert len(other.server.token) >= 32
    refused(client.get("", token=other.server.token), 403)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "0.0.0.0", ""]
)
def test_another_name_for_this_machine_is_refused(client, host):
    refused(client.get("", headers={"Host": host}), 403)


def test_localhost_is_this_machine(client):
    port = client.server.server_address[1]
    assert client.get("", headers={"Host": f"localhost:{port}"}).status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "file://"])
def test_requests_from_other_pages_are_refused(client, origin):
    refused(client.post(EDITS, {}, headers={"Origin": origin}), 403)
    refused(client.get(ROIS, headers={"Origin": origin}), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_the_browser_says_of_other_pages_is_believed(client, site):
    refused(client.get("", headers={"Sec-Fetch-Site": site}), 403)


def test_the_page_itself_may_ask(client):
    own = {"Origin": client.server.url.split("/" + client.server.token)[0]}
    own["Sec-Fetch-Site"] = "same-origin"
    assert client.get(ROIS, headers=own).status == 200


def test_it_listens_on_loopback_only(client):
    assert client.server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    [
        "page/../web.py",
        "page/..%2fweb.py",
        "page/%2e%2e/web.py",
        "page//etc/passwd",
        "../etc/passwd",
        "page/",
        "page",
        "page/main.js/x",
        "api",
        "api/results/../r1",
        "api/results/r2/changes",
        "api/results/r1/image/..%2f..%2frun.json",
        "api/results/r1/image/labels",
        "api/results/r1/frames/other?start=0",
        "run.json",
    ],
)
def test_there_is_nothing_at_other_addresses(client, path):
    refused(client.get(path), 404)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(client, method):
    answer = client.ask(method, "")
    assert answer.status == 501


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("start=-1", "start"),
        ("start=160", "start"),
        ("start=x", "start"),
        ("", "start"),
        ("start=0&count=100000", "count"),
        ("start=0&count=0", "count"),
        ("start=0&step=0", "step"),
        ("start=1e3", "start"),
        ("start=%00", "start"),
    ],
)
def test_frames_out_of_range_are_refused_in_words(client, query, word):
    message = refused(client.get(f"api/results/r1/frames/raw?{query}"), 400)
    assert message.startswith(f"{word} is ")


def test_an_address_that_is_none_is_refused_in_words(client):
    assert "malformed" in refused(client.get(f"{ROIS}?{'a=1&' * 40}"), 400)


def test_too_large_a_request_is_refused_before_it_is_read(client):
    headers = {"Content-Type": "application/json", "Content-Length": str(MAX_BODY_BYTES + 1)}
    refused(client.post(EDITS, b"{}", headers=headers), 413)
    refused(client.get("x" * 5000), 414)


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30, "²"])
def test_a_request_must_say_its_length(client, length):
    port = client.server.server_address[1]
    head = (
        f"POST /{client.server.token}/{EDITS} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    assert b" 411 " in spoken(port, head.encode()).split(b"\r\n")[0]


def spoken(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while part := connection.recv(4096):
            said += part
    return said


def test_chunks_and_two_hosts_are_refused(client):
    port, token = client.server.server_address[1], client.server.token
    host = f"Host: 127.0.0.1:{port}\r\n"
    chunked = f"POST /{token}/{EDITS} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 411 " in spoken(port, chunked.encode()).split(b"\r\n")[0]
    twice = f"GET /{token}/ HTTP/1.1\r\n{host}Host: evil.example\r\n\r\n"
    assert b" 403 " in spoken(port, twice.encode()).split(b"\r\n")[0]


def test_what_is_no_http_gets_an_answer_in_json_and_the_server_lives(client):
    port = client.server.server_address[1]
    for noise in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
    ):
        said = spoken(port, noise)
        assert json.loads(said.split(b"\r\n\r\n")[-1] or b'{"error": ""}').keys() == {"error"}
    assert client.get("").status == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"not json", "application/json", 400),
        (b"[1, 2]", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"a=1", "application/x-www-form-urlencoded", 415),
    ],
)
def test_what_is_not_json_is_refused(client, body, kind, status):
    refused(client.post(EDITS, body, headers={"Content-Type": kind}), status)


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"do": "format"},
        {"do": "accept"},
        {"do": "accept", "rois": []},
        {"do": "accept", "rois": ["roi_9999"]},
        {"do": "accept", "rois": ["roi_0001"], "more": 1},
        {"do": "accept", "rois": ["roi_0001"], "id": "../../x"},
        {"do": "accept", "rois": "roi_0001"},
        {"do": "min_score", "score": 2},
        {"do": "min_score", "score": float("nan")},
        {"do": "threshold", "roi": "roi_0001", "threshold_sd": -1},
        {"do": "draw", "area": {"kind": "polygon", "points": [[0, 0], [1, 1]]}},
        {"do": "draw", "area": {"kind": "polygon", "points": [[-9, -9], [-9, -8], [-8, -8]]}},
        {"do": "draw", "area": {"kind": "stroke", "points": [[5, 5]], "radius_px": 1e9}},
        {"do": "draw", "area": {"kind": "stroke", "points": [[1e300, 5]], "radius_px": 1}},
        {"do": "draw", "area": {"kind": "stroke", "points": [[5, None]], "radius_px": 1}},
        {"do": "split", "roi": "roi_0001", "line": [[-50, -50], [-49, -50]]},
        {"do": "merge", "rois": ["roi_0001", "roi_0001"]},
        {"do": "undo"},
        {"do": "redo"},
    ],
)
def test_an_action_that_makes_no_sense_is_refused_and_leaves_no_trace(client, folder, action):
    assert refused(client.post(EDITS, action), 422)
    assert not (folder / "edits.jsonl").exists()
    assert client.get(ROIS).json["history"]["n_edits"] == 0


def test_a_failure_inside_says_nothing_of_the_inside(client, monkeypatch, caplog):
    def fail(*_):
        msg = f"secret of {client.server.token}"
        raise RuntimeError(msg)

    monkeypatch.setattr("cocuyo.server.session.Session.changes", fail)
    message = refused(client.get(ROIS), 500)
    assert "secret" not in message
    assert client.server.token not in caplog.messages[0]


def test_every_answer_forbids_what_the_page_does_not_need(client):
    for answer in (client.get(""), client.get(ROIS), client.get("", token="x")):
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_the_page_names_no_other_server(client):
    from importlib import resources

    for file in (resources.files("cocuyo.server") / "page").iterdir():
        text = file.read_text("utf-8")
        assert "//" not in text.replace("// ", "").replace("///", ""), file.name
        assert "http:" not in text
        assert "https:" not in text


def test_a_page_for_one_result_shows_no_folder(client):
    refused(client.get("api/browse?path="), 403)
    refused(client.post("api/open", {"path": "."}), 403)
    refused(client.post("api/run", {"path": "slice.tif"}), 403)
