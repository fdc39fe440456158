"""The tab that shows two models side by side on the same picture."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import gradio as gr

from demo.parts.classify_tab import label_values
from demo.parts.detect_tab import build_detection_picture
from demo.parts.inputs import picture_input
from demo.parts.looking import find_in_uploads, look_at_uploads
from demo.parts.refusals import explained
from demo.parts.service import EXAMPLES, MODEL_CALL, VIEW_CALL, Service
from demo.safety.uploads import Upload
from demo.view.found import Chosen, Found, draw_found
from demo.view.words import counts_html, duration, facts_html, plural, spoken_summary


class CompareTab:
    """Builds the tab, and answers its events.

    Args:
        service: models and limits; at least two models of a kind.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.finders, self.classifiers = service.finders, service.classifiers
        groups = [list(group) for group in (self.finders, self.classifiers) if len(group) > 1]
        self._first = groups[0]
        self._names = [name for group in groups for name in group]

    def build(self) -> None:
        """Lay it out and connect it."""
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                self._picture = picture_input("Picture for both models", "compare-picture")
            with gr.Column(scale=1, min_width=280):
                gr.Examples(sorted(map(str, EXAMPLES.glob("*.png"))), self._picture, label="To try")
                self._threshold = gr.Slider(
                    0, 1, 0.5, step=0.01, label="Least score of objects", elem_id="compare-threshold",
                    visible=len(self.finders) > 1,
                )  # fmt: skip
        with gr.Row():
            self._sides = [self._build_side(number) for number in range(2)]
        self._connect()

    def _build_side(self, number: int) -> dict[str, Any]:
        with gr.Column(min_width=300):
            model = gr.Dropdown(
                self._names, value=self._first[number], label=f"{('Left', 'Right')[number]} model", filterable=False,
                elem_id=f"compare-model-{number}",
            )  # fmt: skip
            facts = gr.HTML(elem_id=f"compare-facts-{number}", padding=False)
            drawn = build_detection_picture(f"compare-drawn-{number}", 420)
            counts = gr.HTML(padding=False)
            label = gr.Label(num_top_classes=5, label="Most likely", visible=False, elem_id=f"compare-label-{number}")
        return {"found": gr.State(time_to_live=self.service.limits.keep), "model": model,
                "shown": [facts, drawn, counts, label]}  # fmt: skip

    def _connect(self) -> None:
        for side in self._sides:
            looked = [side["found"], *side["shown"]]
            gr.on(
                [self._picture.change, side["model"].change], self.look,
                [self._picture, side["model"], self._threshold], looked, trigger_mode="always_last",
                show_progress_on=[side["shown"][1]], api_visibility="private", **MODEL_CALL,
            )  # fmt: skip
            self._threshold.input(
                self.show, [side["found"], self._threshold], side["shown"], show_progress="hidden",
                trigger_mode="always_last", **VIEW_CALL,
            )  # fmt: skip

    @explained
    def look(self, upload: Upload | None, model: str, threshold: float) -> tuple[Any, ...]:
        """One side's results."""
        if upload is None:
            return None, "", gr.update(value=None), "", gr.update(visible=False)
        limits = self.service.limits
        if model in self.finders:
            found = find_in_uploads(self.finders[model], [upload], limits)
            return found, *self._show(found, threshold)
        classifier = self.classifiers[model]
        looked, seconds = look_at_uploads(classifier, [upload], limits)
        label = gr.update(value=label_values(looked[0][2].probabilities, classifier.classes), visible=True)
        return None, facts_html(model, duration(seconds)), gr.update(visible=False), "", label

    @explained
    def show(self, found: Found | None, threshold: float) -> tuple[Any, ...]:
        """The same results at another threshold; the model is not asked."""
        return (gr.skip(),) * 4 if found is None else self._show(found, threshold)

    def _show(self, found: Found, threshold: float) -> tuple[Any, ...]:
        kept, sent = found.chosen(0, Chosen(threshold)), found.pictures[0].sent
        drawn = draw_found(sent.pixels(self.service.limits), kept, found.classes)
        path = self.service.files.picture(drawn, f"{PurePath(sent.name).stem}-{found.model}".replace("/", "_"))
        image = gr.update(value=path, visible=True, alt_text=spoken_summary(kept, found.classes, sent.name))
        facts = facts_html(found.model, plural(len(kept), "object"), duration(found.seconds))
        return facts, image, counts_html(kept, found.classes), gr.update(visible=False)
