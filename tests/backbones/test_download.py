"""Fetching files: resumed, checked, whole or absent."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backbones.data.download import check_md5, download
from backbones.errors import InputError

CONTENT = bytes(range(256)) * 5000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the first answer breaks off after ``first`` bytes."""

    first: int | None = None
    ranges = True
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop, type(self).first = type(self).first, None
        self.wfile.write(CONTENT[start : None if stop is None else start + stop])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Server.first, Server.ranges, Server.asked = None, True, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file.zip"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_goes_on(ranges: bool, address: str, tmp_path: Path) -> None:
    Server.first, Server.ranges = 300_000, ranges
    target = tmp_path / "new" / "file.zip"
    with pytest.raises(InputError, match=r"broke off after 300000 of 1280000 bytes; run the command again"):
        download(address, target, MD5)
    assert [path.name for path in target.parent.iterdir()] == ["file.zip.partial"]
    assert download(address, target, MD5).read_bytes() == CONTENT
    assert Server.asked == [None, "bytes=300000-"]
    assert [path.name for path in target.parent.iterdir()] == ["file.zip"]


def test_a_part_that_is_all_is_taken(address: str, tmp_path: Path) -> None:
    (tmp_path / "file.zip.partial").write_bytes(CONTENT)
    assert download(address, tmp_path / "file.zip", MD5).read_bytes() == CONTENT


def test_without_a_checksum_nothing_is_left_of_a_part(address: str, tmp_path: Path) -> None:
    Server.first = 1000
    with pytest.raises(InputError, match="broke off after 1000"):
        download(address, tmp_path / "file.zip")
    assert not list(tmp_path.iterdir())
    assert download(address, tmp_path / "file.zip").read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(address: str, tmp_path: Path) -> None:
    (tmp_path / "file.zip.partial").write_bytes(b"other")
    with pytest.raises(InputError, match="it is damaged or altered"):
        download(address, tmp_path / "file.zip", MD5)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file.zip").write_bytes(b"other")
    with pytest.raises(InputError, match="MD5 795f3202b17cb6bc3d4b771d8c6c9eaf, the published file has"):
        check_md5(tmp_path / "file.zip", MD5)


def test_no_network_is_one_line(tmp_path: Path) -> None:
    for md5 in (MD5, None):
        with pytest.raises(InputError, match=r"can't be fetched \(.*\); put the file at .*file.zip yourself"):
            download("http://127.0.0.1:9/file.zip", tmp_path / "file.zip", md5)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_not_begun(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(InputError, match=r"needs 1280000 bytes, but .* has 1000 bytes left"):
        download(address, tmp_path / "file.zip", MD5)
