"""How the page looks: colours and fonts. Every font is the system's own, so none is fetched."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STYLE = Path(__file__).with_name("page.css")
_SANS = ["ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Violet on warm grey; dark where the visitor's system is dark."""
    return gr.themes.Soft(
        primary_hue="violet", secondary_hue="orange", neutral_hue="stone", radius_size="lg", font=_SANS,
        font_mono=_MONO,
    )  # fmt: skip
