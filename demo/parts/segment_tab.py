"""The tab that names every pixel of a picture."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import gradio as gr

from backbones.errors import InputError
from demo.parts.inputs import picture_input
from demo.parts.looking import look_at_uploads
from demo.parts.refusals import explained
from demo.parts.service import EXAMPLES, MODEL_CALL, Service
from demo.safety.uploads import Upload
from demo.view.words import duration, extent, facts_html
from detection.segmentation.drawing import draw_labels, save_labels

_WIDE_ENOUGH = 480


class SegmentTab:
    """Builds the tab, and answers its events.

    Args:
        service: models and limits.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.segmenters = service.segmenters

    def build(self) -> None:
        """Lay it out and connect it."""
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=300):
                self._model = gr.Dropdown(
                    list(self.segmenters), label="Model", visible=len(self.segmenters) > 1, elem_id="segment-model",
                    filterable=False,
                )  # fmt: skip
                self._picture = picture_input("Picture to label", "segment-picture")
                examples = sorted(str(path) for path in EXAMPLES.glob("scene-*.png"))
                gr.Examples(examples, self._picture, label="Scenes to try")
            with gr.Column(scale=6, min_width=320):
                self._drawn = gr.Image(
                    label="Every pixel in its class's colour", interactive=False, buttons=["download", "fullscreen"],
                    elem_id="segment-drawn", elem_classes="pictured", height=420,
                    alt_text="Nothing yet: send a picture",
                )  # fmt: skip
                self._facts = gr.HTML(elem_id="segment-facts", padding=False)
                self._table = gr.Dataframe(
                    headers=["class", "share of the pixels"], datatype=["str", "number"], interactive=False,
                    label="What covers how much", max_height=320, elem_id="segment-table",
                )  # fmt: skip
                self._labels = gr.File(label="Label image (PNG, VOC's palette)", elem_id="segment-labels")
        self._answer = gr.JSON(visible=False, label="shares")
        self._api = gr.Button(visible=False)
        shown = [self._drawn, self._facts, self._table, self._labels]
        gr.on(
            [self._picture.change, self._model.change], self.look, [self._picture, self._model], shown,
            trigger_mode="always_last", show_progress_on=[self._drawn], api_visibility="private", **MODEL_CALL,
        )  # fmt: skip
        self._api.click(
            self.segment, [self._picture, self._model], [self._answer, self._labels], api_name="segment", **MODEL_CALL
        )

    @explained
    def look(self, upload: Upload | None, model: str) -> tuple[Any, ...]:
        """Results for one picture."""
        if upload is None:
            return gr.update(value=None, alt_text="Nothing yet: send a picture"), "", None, None
        answer, labels, drawn = self._label(upload, model)
        names = ", ".join(answer["shares"])
        facts = facts_html(model, duration(answer["seconds"]), extent((answer["height"], answer["width"])))
        rows = [[name, share] for name, share in sorted(answer["shares"].items(), key=lambda item: -item[1])]
        return gr.update(value=drawn, alt_text=f"{answer['file']} with {names} in colours"), facts, rows, labels

    @explained
    def segment(self, picture: Upload | None, model: str) -> tuple[dict[str, Any], str]:
        """Label every pixel: the part of the picture that each class covers, and a label image (PNG)."""
        if picture is None:
            raise InputError("give a picture")
        answer, labels, _ = self._label(picture, model)
        return answer, labels

    def _label(self, upload: Upload, model: str) -> tuple[dict[str, Any], str, str]:
        """What is found, the label image's file, and the drawn copy's."""
        segmenter, files = self.segmenters[model], self.service.files
        ((sent, pixels, found),), seconds = look_at_uploads(segmenter, [upload], self.service.limits)
        stem = PurePath(sent.name).stem
        place = files.place(f"{stem}-labels.png")
        save_labels(place, found.labels)
        enlarge = max(1, _WIDE_ENOUGH // max(pixels.shape[:2]))
        drawn = files.picture(draw_labels(pixels, found.labels, segmenter.classes, enlarge), f"{stem}-labelled")
        answer = {
            "model": model, "seconds": round(seconds, 4), "file": sent.name, "height": pixels.shape[0],
            "width": pixels.shape[1], "shares": found.to_json(segmenter.classes),
        }  # fmt: skip
        return answer, str(place), drawn
