"""The whole page, and how it looks. Every font is the system's own, so none is fetched."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from demo.parts.classify_tab import ClassifyTab
from demo.parts.compare_tab import CompareTab
from demo.parts.detect_tab import DetectTab
from demo.parts.segment_tab import SegmentTab
from demo.parts.service import Service

TITLE = "Shortcut"
STYLE = Path(__file__).with_name("page.css")
_SANS = ["ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
_HEAD = """
<header class="masthead">
  <svg viewBox="0 0 48 32" width="60" height="40" aria-hidden="true"><path d="M2 26h10l6-16h12l6 16h10" fill="none"
    stroke="currentColor" stroke-width="3" stroke-linejoin="round"/><path class="arc" d="M7 26C9-5 39-5 41 26"
    fill="none" stroke-width="3" stroke-linecap="round"/></svg>
  <div><h1>Shortcut</h1><p>Residual networks that name pictures and find objects in them. Send a picture, or take an
  example: the answer comes at once. Whatever you send is deleted soon.</p></div>
</header>
"""


def theme() -> gr.themes.Base:
    """Violet on warm grey; dark where the visitor's system is dark."""
    return gr.themes.Soft(
        primary_hue="violet", secondary_hue="orange", neutral_hue="stone", radius_size="lg", font=_SANS,
        font_mono=_MONO,
    )  # fmt: skip


def build_page(service: Service) -> gr.Blocks:
    """The page with a tab for each task that there is a model for.

    Args:
        service: models and limits.
    """
    keep = service.limits.keep
    page: gr.Blocks
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(max(1, keep // 4), keep), fill_width=False
    ) as page:
        gr.HTML(_HEAD, padding=False)
        with gr.Tabs():
            if service.finders:
                with gr.Tab("Detect", id="detect"):
                    DetectTab(service).build()
            if service.classifiers:
                with gr.Tab("Classify", id="classify"):
                    ClassifyTab(service).build()
            if service.segmenters:
                with gr.Tab("Segment", id="segment"):
                    SegmentTab(service).build()
            if len(service.finders) > 1 or len(service.classifiers) > 1:
                with gr.Tab("Compare", id="compare"):
                    CompareTab(service).build()
    page.queue(max_size=service.limits.queue, default_concurrency_limit=1)
    return page
