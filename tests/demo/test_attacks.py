"""Every attack of the list is refused, and says nothing of the server."""

from __future__ import annotations

import base64
import io
import re
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.demo.running_page import RunningPage, uploaded

SECRETS = ("/etc/passwd", "/proc/self/environ", str(ROOT / "demo/app.py"), str(ROOT / "pyproject.toml"))


@pytest.mark.parametrize("path", [*SECRETS, "../../../../etc/passwd", "..%2F..%2F..%2Fetc%2Fpasswd", "demo/app.py"])
@pytest.mark.parametrize("route", ["gradio_api/file=", "file=", "gradio_api/static/", "gradio_api/assets/"])
def test_server_files_are_not_served(page: RunningPage, route: str, path: str) -> None:
    answer = httpx.get(f"{page.url}/{route}{path}")
    assert answer.status_code in (403, 404), answer.text
    assert "root:" not in answer.text and "import" not in answer.text


@pytest.mark.parametrize("path", SECRETS)
def test_server_files_are_no_input(page: RunningPage, path: str) -> None:
    event, _ = page.detect(uploaded(path))
    assert event == "error"


@pytest.fixture(scope="module")
def inner_server() -> Iterator[tuple[int, list[str]]]:
    """A server that only this machine reaches, and who connected to it."""
    seen: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            seen.append(str(address))
            connection.close()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], seen
    listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "127.1", "0.0.0.0"])
@pytest.mark.parametrize("field", ["path", "url", "both"])
def test_the_server_fetches_no_address(
    page: RunningPage, inner_server: tuple[int, list[str]], host: str, field: str
) -> None:
    port, seen = inner_server
    url = f"http://{host}:{port}/picture.png"
    file = uploaded(url if field != "url" else "picture.png")
    if field != "path":
        file["url"] = url
    event, data = page.detect(file)
    assert event == "error" and not seen, data


@pytest.mark.parametrize("route", ["gradio_api/proxy=", "gradio_api/file=", "proxy=", "file="])
def test_the_server_is_no_proxy(page: RunningPage, inner_server: tuple[int, list[str]], route: str) -> None:
    port, seen = inner_server
    answer = httpx.get(f"{page.url}/{route}http://127.0.0.1:{port}/")
    assert answer.status_code in (400, 403, 404) and not seen


def test_addresses_are_refused_in_words(page: RunningPage) -> None:
    _, data = page.detect(uploaded("http://example.com/picture.png"))
    assert "fetches no addresses" in str(data)


def test_a_large_upload_is_refused(page: RunningPage) -> None:
    assert page.upload(bytes(2_000_001)).status_code == 413  # one file
    assert page.upload(bytes(8_000_000)).status_code == 413  # the whole request


def test_a_large_body_is_refused(page: RunningPage) -> None:
    answer = httpx.post(f"{page.url}/gradio_api/call/detect", content=b'{"data": ["' + b"x" * 2**20 + b'"]}')
    assert answer.status_code == 413


@pytest.mark.parametrize("route", ["call/detect", "queue/join", "upload"])
def test_a_body_without_a_length_is_cut_off(page: RunningPage, route: str) -> None:
    sent = 0
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100 * 2**20:
            yield head if not sent else b" " * 2**16
            sent += 2**16

    headers = {"content-type": "multipart/form-data; boundary=x" if route == "upload" else "application/json"}
    url = f"{page.url}/gradio_api/{route}"
    with suppress(httpx.TransportError):  # the server may close the connection while the attacker still sends
        assert httpx.post(url, content=endless(), headers=headers, timeout=60).status_code in (400, 413)
    assert all(path.stat().st_size < 2 * 2_000_000 for path in page.temporary_files())
    assert route == "upload" or sent < 90 * 2**20  # Gradio answers at the first byte too many, and drops the rest
    assert httpx.get(page.url).status_code == 200


def test_a_length_that_is_no_number_is_refused(page: RunningPage) -> None:
    host, port = page.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n")
        assert connection.recv(100).split()[1] in (b"400", b"413")


def test_data_addresses_are_refused(page: RunningPage, bright: bytes) -> None:
    data = "data:image/png;base64," + base64.b64encode(bright).decode()
    for file in ({**uploaded("picture.png"), "url": data}, uploaded(data), {"url": data}, data):
        event, answer = page.detect(file)
        assert event == "error" and "detections" not in str(answer)


def bomb(width: int, height: int) -> bytes:
    """A valid head of a PNG of that size, and almost nothing behind."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(2001, 2001), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_pictures_that_unpack_to_too_much_are_refused_undecoded(page: RunningPage, size: tuple[int, int]) -> None:
    event, answer = page.detect(uploaded(page.upload(bomb(*size)).json()[0]))
    assert event == "error"
    assert re.search("more than the 4000000|more pixels than are read|not a JPEG", str(answer)), answer


@pytest.mark.parametrize("name", ["picture.eps", "picture.png"])
def test_eps_starts_no_program(page: RunningPage, name: str, tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    event, answer = page.detect(uploaded(page.upload(eps, name).json()[0], name))
    assert event == "error" and "not a JPEG, PNG, WEBP or BMP" in str(answer)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "ICO", "JPEG2000", "PPM", "TGA"])
def test_other_parsers_stay_closed(page: RunningPage, kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, kind)
    event, answer = page.detect(uploaded(page.upload(stream.getvalue()).json()[0]))
    assert event == "error" and "not a JPEG, PNG, WEBP or BMP" in str(answer)


@pytest.mark.parametrize("name", ["../../evil.html", "..\\..\\evil.html", "/etc/cron.d/evil", "%2e%2e%2fevil.html"])
def test_a_path_in_a_name_leads_nowhere(page: RunningPage, name: str) -> None:
    (path,) = page.upload(b"<script>alert(1)</script>", name).json()
    assert Path(path).resolve().is_relative_to(page.folder.resolve())
    answer = httpx.get(f"{page.url}/gradio_api/file={path}")
    assert answer.status_code in (403, 404) or "attachment" in answer.headers["content-disposition"]
    assert not list(ROOT.rglob("evil*"))


def test_names_are_escaped_in_messages(page: RunningPage) -> None:
    (path,) = page.upload(b"nothing").json()
    event, answer = page.detect(uploaded(path, "<img src=x onerror=alert(1)>.png"))
    assert event == "error" and "<img" not in str(answer)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_other_names_of_the_host_are_refused(page: RunningPage, host: str) -> None:
    assert httpx.get(page.url, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("route", ["openapi.json", "docs", "redoc", "monitoring", "gradio_api/mcp/"])
def test_what_is_not_needed_is_closed(page: RunningPage, route: str) -> None:
    answer = httpx.get(f"{page.url}/{route}")
    assert answer.status_code in (403, 404, 405) or ("<html" in answer.text.lower() and "swagger" not in answer.text)


def test_every_answer_has_the_safe_headers(page: RunningPage) -> None:
    for answer in (httpx.get(page.url), httpx.get(f"{page.url}/nowhere"), page.upload(bytes(9_000_000))):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_errors_tell_nothing_of_the_server(page: RunningPage) -> None:
    for file in (uploaded("/etc/passwd"), 7, {"path": None}, [], {"path": "x", "meta": {"_type": "gradio.FileData"}}):
        event, answer = page.detect(file)
        assert event == "error" and str(ROOT) not in str(answer) and "Traceback" not in str(answer)


@pytest.mark.parametrize("value", [7, -1, "much", [0.5]])
def test_thresholds_outside_the_range_are_refused(page: RunningPage, bright: bytes, value: object) -> None:
    event, _ = page.detect(uploaded(page.upload(bright).json()[0]), value)  # type: ignore[arg-type]
    assert event == "error"
