"""The page as a visitor sees it, in Chromium. Set $SCREENSHOTS to a folder to look at it, too."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from demo.view.result_files import ResultFiles
from detection.prediction.video import VideoWriter
from tests.demo.browsing import browsing, find_chromium
from tests.demo.running_page import RunningPage

pytest.importorskip("playwright", reason="needs playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="needs chromium (apt-get install chromium)"),
]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing() as running:
        yield running


@pytest.fixture
def visit(browser: Any, page: RunningPage) -> Iterator[Open]:
    """Open the page; in the end: no other host was asked for anything, and no script failed."""
    contexts, hosts, failures = [], set(), []

    def open_page(viewport: dict[str, int] = WIDE, scheme: str = "light", url: str = page.url) -> Any:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        tab.on(
            "request", lambda request: hosts.add(urlsplit(request.url).netloc) if request.url[:4] == "http" else None
        )
        tab.on("pageerror", lambda error: failures.append(str(error)))
        tab.goto(url)
        tab.wait_for_selector("#detect-picture input[type=file]", state="attached")
        return tab

    yield open_page
    for number, context in enumerate(contexts):
        if folder := os.environ.get("SCREENSHOTS"):
            name = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].partition(" ")[0]
            context.pages[0].screenshot(path=Path(folder) / f"{name}-{number}.png", full_page=True)
        context.close()
    assert all(host.startswith("127.0.0.1:") for host in hosts - {""}), hosts  # data: and blob: name no host
    assert not failures


def png(shade: int = 250) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.new("RGB", (120, 80), (shade,) * 3).save(stream, "PNG")
    return {"name": f"shade-{shade}.png", "mimeType": "image/png", "buffer": stream.getvalue()}


def send(tab: Any, place: str, *files: dict[str, Any]) -> None:
    tab.set_input_files(f"{place} input[type=file]", list(files))


def shown(tab: Any, text: str, place: str = "#detect-facts") -> None:
    tab.locator(place).get_by_text(text, exact=True).wait_for()


def move(tab: Any, place: str, steps: int) -> None:
    """Move a slider by so many steps with the keyboard."""
    slider = tab.locator(f"{place} input[type=range]")
    slider.focus()
    for _ in range(abs(steps)):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")


def drawn(tab: Any) -> str:
    return tab.locator("#detect-drawn img").get_attribute("src")


def test_objects_are_found_and_filtered(visit: Open) -> None:
    tab = visit()
    send(tab, "#detect-picture", png())
    shown(tab, "3 objects")
    assert tab.locator("#detect-counts li").all_text_contents() == ["cat1", "dog1", "owl1"]
    assert tab.locator("#detect-drawn img").get_attribute("alt").startswith("shade-250.png with 3 objects marked: 1 of")
    first = drawn(tab)
    move(tab, "#detect-threshold", -12)  # 0.38
    shown(tab, "4 objects")
    assert drawn(tab) != first
    tab.get_by_label("Classes (all, if none is chosen)").click()
    tab.get_by_role("option", name="cat").click()
    shown(tab, "2 objects")
    tab.keyboard.press("Escape")
    assert tab.locator("#detect-counts li").all_text_contents() == ["cat2"]
    move(tab, "#detect-threshold", 62)
    tab.locator("#detect-counts").get_by_text("Nothing at this threshold").wait_for()


def test_masks_can_be_hidden(visit: Open) -> None:
    tab = visit()
    tab.get_by_label("Model").first.click()
    tab.get_by_role("option", name="masks").click()
    send(tab, "#detect-picture", png())
    shown(tab, "masks")
    shown(tab, "3 objects")
    before = drawn(tab)
    tab.get_by_label("Show masks, where the model has them").uncheck()
    tab.wait_for_function(
        "before => document.querySelector('#detect-drawn img').getAttribute('src') !== before", arg=before
    )


def test_results_are_saved(visit: Open, tmp_path: Path) -> None:
    tab = visit()
    send(tab, "#detect-picture", png())
    shown(tab, "3 objects")
    with tab.expect_download() as saved:
        tab.locator("#detect-save-json").click()
    assert saved.value.suggested_filename == "shade-250-detections.json"
    saved.value.save_as(tmp_path / "saved.json")
    (picture,) = json.loads((tmp_path / "saved.json").read_text())["pictures"]
    assert (picture["file"], len(picture["detections"])) == ("shade-250.png", 3)
    with tab.expect_download() as saved:
        tab.locator("#detect-save-picture").click()
    saved.value.save_as(tmp_path / "saved.png")
    assert Image.open(tmp_path / "saved.png").size == (600, 400)


def test_several_pictures_at_once(visit: Open) -> None:
    tab = visit()
    tab.get_by_role("tab", name="Several").first.click()
    send(tab, "#detect-pictures", png(250), png(150), png(0))
    shown(tab, "shade-250.png")
    thumbnails = tab.locator("#detect-gallery button.thumbnail-item")
    thumbnails.nth(2).wait_for()
    thumbnails.nth(2).click()
    shown(tab, "shade-0.png")
    shown(tab, "0 objects")
    tab.get_by_role("tab", name="Classify").click()
    tab.get_by_role("tab", name="Several").last.click()
    send(tab, "#classify-pictures", png(250), png(10))
    tab.locator("#classify-table").get_by_text("shade-10.png").first.wait_for()


def test_a_picture_is_classified(visit: Open) -> None:
    tab = visit()
    tab.get_by_role("tab", name="Classify").click()
    send(tab, "#classify-picture", png(240))
    tab.locator("#classify-heat img").wait_for()
    words = tab.locator("#classify-label").inner_text()
    assert {"cat", "dog", "owl"} <= set(words.split()) and "%" in words
    assert "speak for class cat" in tab.locator("#classify-heat img").get_attribute("alt")


def test_examples_are_one_click_away(visit: Open) -> None:
    tab = visit()
    tab.get_by_role("button", name="scene").first.or_(tab.locator("button.gallery-item").first).first.click()
    tab.locator("#detect-drawn img").wait_for()
    shown(tab, "128 × 128 pixels")


def test_a_bad_file_is_explained(visit: Open) -> None:
    tab = visit()
    send(tab, "#detect-picture", {"name": "<b>bad</b>.png", "mimeType": "image/png", "buffer": b"nothing"})
    toast = tab.get_by_test_id("toast-body").first
    toast.wait_for()
    assert "not a JPEG, PNG, WEBP or BMP picture" in toast.inner_text() and "Traceback" not in toast.inner_text()


def test_a_video_is_looked_at(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    with VideoWriter(path, (90, 120), Fraction(10)) as writer:
        for number in range(12):
            writer.add(np.full((90, 120, 3), 250 - number, np.uint8), number / 10)
    film = {"name": "short.mp4", "mimeType": "video/mp4", "buffer": path.read_bytes()}
    tab = visit()
    tab.get_by_role("tab", name="Video").first.click()
    send(tab, "#detect-video", film)
    tab.locator("#detect-video video").wait_for()
    tab.get_by_role("button", name="Look at the video").first.click()
    tab.locator("#detect-film video").wait_for()
    assert "frames" in tab.locator("#detect-facts").inner_text()
    tab.get_by_role("tab", name="Classify").click()
    tab.get_by_role("tab", name="Video").last.click()
    send(tab, "#classify-video", film)
    tab.locator("#classify-video video").wait_for()
    tab.get_by_role("button", name="Look at the video").last.click()
    tab.locator("#classify-facts").get_by_text("mean of").wait_for()


def test_two_models_side_by_side(visit: Open) -> None:
    tab = visit()
    tab.get_by_role("tab", name="Compare").click()
    send(tab, "#compare-picture", png())
    for side, model in enumerate(("detector", "masks")):
        tab.locator(f"#compare-drawn-{side} img").wait_for()
        shown(tab, model, f"#compare-facts-{side}")
        shown(tab, "3 objects", f"#compare-facts-{side}")
    move(tab, "#compare-threshold", -12)
    for side in range(2):
        shown(tab, "4 objects", f"#compare-facts-{side}")


def test_a_narrow_dark_screen(visit: Open) -> None:
    tab = visit(NARROW, "dark")
    send(tab, "#detect-picture", png())
    shown(tab, "3 objects")
    assert tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    colors = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert max(colors) < 60


def test_everything_has_a_name_for_screen_readers(visit: Open) -> None:
    tab = visit()
    send(tab, "#detect-picture", png())
    shown(tab, "3 objects")
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea')]
        .filter(e => e.offsetParent !== null && e.type !== 'file')
        .filter(e => !(e.getAttribute('aria-label') || e.title || e.innerText.trim() || (e.labels && e.labels.length)
            || e.getAttribute('aria-labelledby') || e.querySelector('img[alt]')))
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert not nameless
    assert tab.locator("h1").inner_text() == "Shortcut"


def test_moving_the_threshold_asks_no_model(visit: Open, page: RunningPage, tmp_path: Path) -> None:
    from demo.model.finders import open_finder
    from demo.parts.building import build_page
    from demo.parts.service import Service
    from demo.safety.limits import Limits

    finder = open_finder(str(page.arguments[1]), "counted")
    calls = []
    find = finder.find
    finder.find = lambda pictures: calls.append(len(pictures)) or find(pictures)  # type: ignore[method-assign]
    counted = build_page(Service({"counted": finder}, {}, Limits(), ResultFiles(tmp_path)))
    _, url, _ = counted.launch(
        prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False, allowed_paths=[str(tmp_path)]
    )
    try:
        tab = visit(url=url)
        send(tab, "#detect-picture", png())
        shown(tab, "3 objects")
        assert calls == [1]
        move(tab, "#detect-threshold", -12)
        shown(tab, "4 objects")
        tab.get_by_label("Show masks, where the model has them").uncheck()
        move(tab, "#detect-threshold", 12)
        shown(tab, "3 objects")
        assert calls == [1]
    finally:
        counted.close(verbose=False)
