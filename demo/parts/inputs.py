"""Gradio's inputs, made to trust nothing: they hand on where an uploaded file lies, and decode none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import component_meta
from gradio_client.utils import is_http_url_like

from demo.parts.refusals import refusal
from demo.safety.limits import Limits
from demo.safety.uploads import Upload

PICTURES = [".jpg", ".jpeg", ".png", ".webp", ".bmp"]
VIDEOS = [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"]


@contextmanager
def _without_stubs() -> Iterator[None]:
    """Gradio writes a stub (.pyi) beside the source of every component class; ours have their types already."""
    name = "create_or_modify_pyi"
    original = getattr(component_meta, name)
    setattr(component_meta, name, lambda *arguments: None)
    try:
        yield
    finally:
        setattr(component_meta, name, original)


with _without_stubs():  # no base class for what is alike: Gradio names a template after its first base

    class PictureInput(gr.Image):
        """A picture; ``preprocess`` gives an ``Upload`` or None."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            """The upload that a message names."""
            return None if payload is None else _upload(payload)

        async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
            """As Gradio does it, but for addresses."""
            _refuse_addresses(url_or_file_path)
            return await super().async_move_resource_to_block_cache(url_or_file_path)

    class PicturesInput(gr.File):
        """Several pictures; ``preprocess`` gives a list of ``Upload``."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            """The uploads that a message names."""
            if payload is None:
                return []
            return [_upload(file) for file in getattr(payload, "root", [payload])]

        async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
            """As Gradio does it, but for addresses."""
            _refuse_addresses(url_or_file_path)
            return await super().async_move_resource_to_block_cache(url_or_file_path)

    class VideoInput(gr.Video):
        """A video; ``preprocess`` gives an ``Upload`` or None. Nothing is converted: Gradio would start a program."""

        is_template = True

        def preprocess(self, payload: Any) -> Any:
            """The upload that a message names."""
            return None if payload is None else _upload(payload)

        async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
            """As Gradio does it, but for addresses."""
            _refuse_addresses(url_or_file_path)
            return await super().async_move_resource_to_block_cache(url_or_file_path)


def picture_input(label: str, element: str) -> PictureInput:
    """A place for one picture: dropped, chosen or pasted.

    Args:
        label: above it, and for screen readers.
        element: its id in the page.
    """
    return PictureInput(
        sources=["upload", "clipboard"], label=label, elem_id=element, elem_classes="pictured", height=300,
        buttons=["fullscreen"], alt_text="The picture that you sent",
    )  # fmt: skip


def several_and_video(tab: str, limits: Limits) -> tuple[PicturesInput, VideoInput, gr.Button, gr.Button]:
    """The places for several pictures and for a video, each in a tab, with the buttons that start and stop the video.

    Args:
        tab: with which their ids in the page begin.
        limits: which the labels state.
    """
    with gr.Tab("Several", id="several"):
        pictures = PicturesInput(
            file_count="multiple", file_types=PICTURES, elem_id=f"{tab}-pictures", height=300,
            label=f"Up to {limits.pictures} pictures",
        )  # fmt: skip
    with gr.Tab("Video", id="video"):
        video = VideoInput(
            sources=["upload"], label=f"Video, first {limits.seconds:g} seconds", elem_id=f"{tab}-video", height=300,
            buttons=[],
        )  # fmt: skip
        with gr.Row():
            start = gr.Button("Look at the video", variant="primary", elem_id=f"{tab}-video-start")
            stop = gr.Button("Stop", variant="secondary", elem_id=f"{tab}-video-stop")
    return pictures, video, start, stop


def _upload(file: Any) -> Upload:
    if not file.path or (file.url or "").startswith("data:"):
        raise refusal("Send it as a file.")
    return Upload.of(file.path, file.orig_name)


def _refuse_addresses(path: str | Path | None) -> None:
    """Before Gradio fetches them: even where it would refuse an address, it asks an outside name server first."""
    text = str(path or "")
    if is_http_url_like(text) or "://" in text or text.startswith("data:"):
        raise refusal("Send it as a file; this page fetches no addresses.")
