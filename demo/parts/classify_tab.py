"""The tab that names what a picture shows, and where the network looked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from backbones.classification import TOP, Classification
from backbones.errors import InputError
from backbones.images import Picture, resize
from demo.model.finders import Classified
from demo.parts.frames import short_video
from demo.parts.inputs import picture_input, several_and_video
from demo.parts.looking import look_at_uploads
from demo.parts.refusals import explained
from demo.parts.service import EXAMPLES, MODEL_CALL, Service
from demo.safety.uploads import Upload
from demo.view.heat import draw_heat
from demo.view.words import duration, extent, facts_html, plural

_VIDEO_RATE = 4.0
_WIDE_ENOUGH = 320


class ClassifyTab:
    """Builds the tab, and answers its events.

    Args:
        service: models and limits.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.classifiers = service.classifiers

    def build(self) -> None:
        """Lay it out and connect it."""
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=300):
                self._build_inputs()
            with gr.Column(scale=6, min_width=320):
                self._build_results()
        self._connect()

    def _build_inputs(self) -> None:
        self._model = gr.Dropdown(
            list(self.classifiers), label="Model", visible=len(self.classifiers) > 1, elem_id="classify-model",
            filterable=False,
        )  # fmt: skip
        with gr.Tabs():
            with gr.Tab("One picture", id="one"):
                self._picture = picture_input("Picture to name", "classify-picture")
                examples = sorted(str(path) for path in EXAMPLES.glob("digit-*.png"))
                gr.Examples(examples, self._picture, label="Digits to try")
            self._pictures, self._video, self._start_video, self._stop_video = several_and_video(
                "classify", self.service.limits
            )

    def _build_results(self) -> None:
        self._label = gr.Label(num_top_classes=TOP, label="Most likely", elem_id="classify-label")
        self._facts = gr.HTML(elem_id="classify-facts", padding=False)
        self._heat = gr.Image(
            label="Where the network looked", interactive=False,
            buttons=["download", "fullscreen"], elem_id="classify-heat", elem_classes="pictured", height=340,
            alt_text="Nothing yet: send a picture",
        )  # fmt: skip
        self._table = gr.Dataframe(
            headers=["picture", "class", "probability"], datatype=["str", "str", "number"], interactive=False,
            visible=False, label="Each of them", max_height=320, elem_id="classify-table",
        )  # fmt: skip
        self._api_answer = gr.JSON(visible=False, label="classes")
        self._api = gr.Button(visible=False)

    def _connect(self) -> None:
        shown = [self._label, self._facts, self._heat, self._table]
        asking: dict[str, Any] = {**MODEL_CALL, "api_visibility": "private", "show_progress_on": [self._label]}
        gr.on(
            [self._picture.change, self._model.change], self.look_at_one, [self._picture, self._model], shown,
            trigger_mode="always_last", **asking,
        )  # fmt: skip
        gr.on(
            [self._pictures.upload, self._pictures.delete], self.look_at_several, [self._pictures, self._model], shown,
            trigger_mode="always_last", **asking,
        )  # fmt: skip
        filming = self._start_video.click(self.look_at_video, [self._video, self._model], shown, **asking)
        self._stop_video.click(None, cancels=[filming], api_visibility="private")
        self._api.click(
            self.classify, [self._picture, self._model], self._api_answer, api_name="classify", **MODEL_CALL
        )

    @explained
    def look_at_one(
        self, upload: Upload | None, model: str, progress: gr.Progress = gr.Progress()  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        """Results for one picture."""
        return self._look([] if upload is None else [upload], model, progress)

    @explained
    def look_at_several(
        self, uploads: list[Upload], model: str, progress: gr.Progress = gr.Progress()  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        """Results for several pictures: the first in full, all in the table."""
        return self._look(uploads, model, progress)

    def _look(self, uploads: list[Upload], model: str, progress: gr.Progress) -> tuple[Any, ...]:
        if not uploads:
            return None, "", gr.update(value=None, alt_text="Nothing yet: send a picture"), gr.update(visible=False)

        def advance(done: int, total: int) -> None:
            progress((done, total), desc="looking", unit="pictures")

        classifier = self.classifiers[model]
        looked, seconds = look_at_uploads(classifier, uploads, self.service.limits, advance)
        sent, picture, answer = looked[0]
        rows = [[one.name, *_best(found.probabilities, classifier.classes)] for one, _, found in looked]
        several = len(looked) > 1
        facts = (model, duration(seconds), extent(sent.size), f"{sent.name}, of {len(looked)}" if several else "")
        return (
            label_values(answer.probabilities, classifier.classes),
            facts_html(*facts),
            self._draw(picture, answer, classifier.classes, PurePath(sent.name).stem),
            gr.update(value=rows, visible=several),
        )

    @explained
    def classify(self, picture: Upload | None, model: str) -> dict[str, Any]:
        """Name what a picture shows: the best five classes with their probabilities, best first."""
        if picture is None:
            raise InputError("give a picture")
        classifier = self.classifiers[model]
        looked, seconds = look_at_uploads(classifier, [picture], self.service.limits)
        sent, _, answer = looked[0]
        best = Classification(answer.probabilities, classifier.classes).top(TOP)
        classes = [{"class": name, "score": round(score, 6)} for name, score in best]
        return {"model": model, "seconds": round(seconds, 4), "file": sent.name, "classes": classes}

    @explained
    def look_at_video(self, upload: Upload | None, model: str) -> Iterator[tuple[Any, ...]]:
        """Frame after frame; in the end the mean over all."""
        if upload is None:
            raise InputError("choose a video first")
        classifier = self.classifiers[model]
        begun, told = time.perf_counter(), 0.0
        rows: list[list[Any]] = []
        total = np.zeros(len(classifier.classes))
        with short_video(upload, self.service.limits, _VIDEO_RATE) as video:
            for moment, picture in video.frames():
                answer = classifier.find([picture])[0]
                total += answer.probabilities
                rows.append([f"{moment:.2f} s", *_best(answer.probabilities, classifier.classes)])
                if time.perf_counter() - told > 0.2:
                    told = time.perf_counter()
                    facts = facts_html(model, f"frame {len(rows)} of about {video.expected}")
                    heat = self._draw(picture, answer, classifier.classes, "frame")
                    yield label_values(answer.probabilities, classifier.classes), facts, heat, gr.skip()
            if not rows:
                raise InputError(f"{upload.name}: not a video that can be read")
            cut = f"only the first {self.service.limits.seconds:g} s" if video.cut else ""
        facts = facts_html(model, f"mean of {plural(len(rows), 'frame')}", duration(time.perf_counter() - begun), cut)
        yield label_values(total / len(rows), classifier.classes), facts, gr.skip(), gr.update(value=rows, visible=True)

    def _draw(self, picture: Picture, answer: Classified, classes: Sequence[str], stem: str) -> Any:
        best = classes[int(answer.probabilities.argmax())]
        if answer.activation is None or answer.area is None:
            path = self.service.files.picture(_enlarged(picture), stem)
            return gr.update(value=path, alt_text=f"{stem}; this model does not tell where it looked")
        heated = draw_heat(picture, answer.activation, answer.area)
        path = self.service.files.picture(_enlarged(heated), f"{stem}-heat")
        return gr.update(value=path, alt_text=f"{stem} with the places that speak for class {best} in bright colours")


def _enlarged(picture: Picture) -> Picture:
    """Small pictures several times larger, smoothly, since browsers would not be asked to."""
    height, width = picture.shape[:2]
    factor = max(1, _WIDE_ENOUGH // max(height, width))
    return resize(picture, (height * factor, width * factor))


def _best(probabilities: NDArray[Any], classes: Sequence[str]) -> tuple[str, float]:
    label = int(probabilities.argmax())
    return classes[label], round(float(probabilities[label]), 4)


def label_values(probabilities: NDArray[Any], classes: Sequence[str]) -> dict[str, float]:
    """The best classes for ``gr.Label``; a name that two of them share gets the label's number."""
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    names: dict[str, float] = {}
    for label in best:
        name = classes[int(label)]
        names[f"{name} ({label})" if name in names else name] = float(probabilities[label])
    return names
