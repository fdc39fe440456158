"""Videos, read and written frame by frame."""

from __future__ import annotations

import json
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbones.errors import InputError
from detection.prediction import video as video_file
from detection.prediction.copies import Copies
from detection.prediction.listings import Labelling, open_listings
from detection.prediction.running import Prediction, Settings
from detection.prediction.sources import find_sources
from detection.prediction.video import Sampling, Video, VideoWriter, expected_frames
from tests.detection.test_prediction import SETTINGS, Finder

av = pytest.importorskip("av", reason="needs the extra video")
ALL = Sampling()
CODECS = {".mp4": "libx264", ".mov": "libx264", ".avi": "mpeg4", ".mkv": "libx264", ".webm": "libvpx-vp9"}


def write_video(path: Path, count: int = 60, size: tuple[int, int] = (64, 96), container: str | None = None) -> Path:
    """Frames of growing red at 30 a second, with noise so that each has some bytes; the top left corner is blue."""
    rng = np.random.default_rng(0)
    height, width = size
    with av.open(str(path), "w", format=container, options={"movflags": "faststart"}) as file:
        stream = file.add_stream(CODECS[path.suffix], rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.bit_rate = 10, 2_000_000
        for number in range(count):
            pixels = rng.integers(0, 30, (height, width, 3), np.uint8)
            pixels[..., 0] += np.uint8(200 * number // count)
            pixels[:16, :16] = (0, 0, 255)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return path


def read(path: Path, sampling: Sampling = ALL) -> tuple[list[int], list[float], list[np.ndarray], str]:
    with Video(path, sampling) as video:
        frames = list(video.frames())
        return (
            [frame.number for frame in frames],
            [frame.time for frame in frames],
            [video.convert(frame) for frame in frames],
            str(video.fault or ""),
        )


@pytest.mark.parametrize("suffix", CODECS)
def test_frames_come_in_order_with_their_times(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}")
    numbers, times, pictures, fault = read(path)
    assert (numbers, fault) == (list(range(60)), "")
    assert np.abs(np.array(times) - np.arange(60) / 30).max() < 0.002
    assert pictures[0].shape == (64, 96, 3)
    reds = [float(picture[20:, 20:, 0].mean()) for picture in pictures]
    assert np.abs(np.array(reds) - (200 * np.arange(60) // 60 + 14.5)).max() < 8
    assert np.abs(pictures[30][8, 8].astype(int) - (0, 0, 255)).max() < 25
    assert expected_frames(path, ALL) == 60


def test_frames_are_chosen(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    assert read(path, Sampling(every=25))[0] == [0, 25, 50]
    assert read(path, Sampling(rate=5))[0] == list(range(0, 60, 6))
    assert read(path, Sampling(rate=100))[0] == list(range(60))
    assert expected_frames(path, Sampling(every=25)) == 3
    assert expected_frames(path, Sampling(rate=5)) == 10
    assert expected_frames(tmp_path / "absent.mp4", ALL) == 0


@pytest.mark.parametrize("turned", ["right", "left", "over"])
def test_a_phone_held_upright(tmp_path: Path, turned: str) -> None:
    path = write_video(tmp_path / "a.mp4", count=2)
    one, width, height = 1 << 16, 96 << 16, 64 << 16
    matrix = {
        "right": (0, one, 0, -one, 0, 0, height, 0, 1 << 30),
        "left": (0, -one, 0, one, 0, 0, 0, width, 1 << 30),
        "over": (-one, 0, 0, 0, -one, 0, width, height, 1 << 30),
    }[turned]
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd") + 4 + 40  # behind version, times, number, duration, layer and volume
    assert struct.unpack(">9i", data[place : place + 36])[0] == one
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    picture = read(path)[2][0]
    corner = {"right": picture[:16, -16:], "left": picture[-16:, :16], "over": picture[-16:, -16:]}[turned]
    assert picture.shape == ((64, 96, 3) if turned == "over" else (96, 64, 3))
    assert np.abs(corner.reshape(-1, 3).mean(0) - (0, 0, 255)).max() < 25


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".webm"])
def test_what_is_left_of_a_truncated_file_is_read(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    numbers, _, pictures, fault = read(path)
    assert 0 < len(numbers) == len(pictures) < 45
    assert fault.startswith(f"{path}: ends after ")
    assert "of 2.0 s" in fault


def test_damaged_places_are_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 6000] = bytes(6000)
    path.write_bytes(data)
    numbers, _, _, fault = read(path)
    assert len(numbers) > 40
    assert "damaged places" in fault


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a video"),
        (b"nothing of the kind", "cannot be read as a video"),
        (b"#EXTM3U\n#EXTINF:10.0,\nfile:a.mp4\n#EXT-X-ENDLIST\n", "cannot be read as a video"),
        (b"ffconcat version 1.0\nfile a.mp4\n", "cannot be read as a video"),  # would read files it names
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write_video(tmp_path / "a.mp4", count=2)
    (tmp_path / "b.mp4").write_bytes(content)
    with pytest.raises(InputError, match=f"b.mp4: {message}"):
        Video(tmp_path / "b.mp4", ALL)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(InputError, match=r"a\.mp4: holds no video"):
        Video(tmp_path / "a.mp4", ALL)


def test_huge_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", count=2)
    monkeypatch.setattr(video_file, "MAX_FRAME_PIXELS", 64 * 96 - 1)
    with pytest.raises(InputError, match="96 x 64 pixels, more than the 6143 of a frame"):
        Video(path, ALL)
    # A head that lies: the decoder itself keeps to the limit.
    monkeypatch.setattr(video_file, "_refuse_huge", lambda *size: None)
    assert read(path)[3] == f"{path}: cannot be read beyond 0.0 s (Invalid argument)"


def test_without_pyav_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"needs av, .*: pip install -e '.\[video\]'"):
        Video(tmp_path / "a.mp4", ALL)


@pytest.mark.parametrize("encoders", [video_file.ENCODERS, ("mpeg4",)])
def test_written_frames_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoders: tuple[str, ...]
) -> None:
    monkeypatch.setattr(video_file, "ENCODERS", encoders)
    times = [0.0, 0.1, 0.1, 0.5, 0.9]  # the second and third at once, as in damaged files
    with VideoWriter(tmp_path / "a.mp4", (41, 51), Fraction(30000, 1001)) as writer:
        for number, time in enumerate(times):
            writer.add(np.full((41, 51, 3), (50 * number, 100, 20), np.uint8), time)
    _, again, pictures, fault = read(tmp_path / "a.mp4")
    assert fault == ""
    assert np.abs(np.array(again) - times).max() < 0.001
    assert pictures[0].shape == (42, 52, 3)
    for number, picture in enumerate(pictures):
        assert np.abs(picture.reshape(-1, 3).mean(0) - (50 * number, 100, 20)).max() < 6


def test_a_video_is_drawn_and_listed(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((tmp_path / "in.mp4").read_bytes()[:200_000])
    (tmp_path / "bad.mkv").write_bytes(b"bad")
    sources, _ = find_sources([str(tmp_path / name) for name in ("bad.mkv", "in.mp4", "cut.mp4")], None, tmp_path / "o")
    advanced: list[int] = []
    with open_listings(("json", "csv", "coco", "yolo"), tmp_path / "o", Labelling.of(SETTINGS, sources)) as listings:
        settings = Settings((0.0, 0.3), batch_size=4, sampling=Sampling(every=10))
        run = Prediction(Finder(), settings, Copies(tmp_path / "o", SETTINGS.classes), listings, advanced.append)
        run.run(sources)
    content = json.loads((tmp_path / "o/detections.json").read_text())["pictures"]
    whole = [item for item in content if item["file"].endswith("in.mp4")]
    assert [(item["frame"], item["time"]) for item in whole] == [(10 * n, round(n / 3, 4)) for n in range(6)]
    assert [len(item["detections"]) for item in whole] == [1, 1, 1, 2, 2, 2]
    lines = (tmp_path / "o/detections.csv").read_text().splitlines()
    assert lines[0].endswith(",frame,time")
    assert lines[3].endswith(",20,0.6667")
    numbers, times, pictures, _ = read(tmp_path / "o/in.mp4")
    assert len(numbers) == 6
    assert abs(times[5] - 5 / 3) < 0.001
    assert pictures[0].shape == (64, 96, 3)
    assert [str(fault).split(": ")[1][:10] for fault in run.outcome.faults] == ["cannot be ", "ends after"]
    assert 0 < len(read(tmp_path / "o/cut.mp4")[0]) < 6
    assert not (tmp_path / "o/bad.mp4").exists()
    assert (tmp_path / "o/labels/in.frames/000030.txt").exists()
    assert sum(advanced) == 6 + 6
    images = json.loads((tmp_path / "o/coco_images.json").read_text())["images"]
    assert [image["id"] for image in images] == list(range(1, len(content) + 1))


def test_an_error_leaves_no_half_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "in.mp4")
    sources, _ = find_sources([str(tmp_path / "in.mp4")], None, tmp_path / "o")

    def fail(*arguments: Any, **settings: Any) -> None:
        raise OSError("disk full")

    run = Prediction(Finder(), Settings((0.0, 0.0)), Copies(tmp_path / "o", SETTINGS.classes), [])
    monkeypatch.setattr(Prediction, "_add", fail)
    with pytest.raises(OSError, match="disk full"):
        run.run(sources)
    assert not list((tmp_path / "o").iterdir())
