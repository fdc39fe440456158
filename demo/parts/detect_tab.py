"""The tab that finds objects: one picture, several, or a short video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import gradio as gr

from backbones.errors import InputError
from backbones.images import Picture
from demo.model.finders import Finder, start_threshold
from demo.parts.frames import short_video
from demo.parts.inputs import VIDEOS, picture_input, several_and_video
from demo.parts.looking import find_in_uploads
from demo.parts.refusals import explained
from demo.parts.service import EXAMPLES, MODEL_CALL, VIEW_CALL, Service
from demo.safety.uploads import Upload
from demo.view.found import Chosen, Found, draw_found, table_rows
from demo.view.words import counts_html, duration, extent, facts_html, plural, spoken_summary
from detection.detections import Detections
from detection.metrics.thresholds import DEFAULT, thresholds_by_class
from detection.prediction.video import VideoWriter

COLUMNS = ["class", "score", "x1", "y1", "x2", "y2"]


class DetectTab:
    """Builds the tab, and answers its events.

    Args:
        service: models and limits.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.finders = service.finders
        self.first = next(iter(service.finders.values()))

    def build(self) -> None:
        """Lay it out and connect it."""
        self._found = gr.State(time_to_live=self.service.limits.keep)
        self._shown = gr.State(0)
        with gr.Row(elem_classes="workbench"):
            with gr.Column(scale=4, min_width=300):
                self._build_inputs()
            with gr.Column(scale=6, min_width=320):
                self._build_results()
        self._connect()

    def _build_inputs(self) -> None:
        limits = self.service.limits
        self._model = gr.Dropdown(
            list(self.finders), label="Model", visible=len(self.finders) > 1, elem_id="detect-model", filterable=False
        )
        with gr.Tabs():
            with gr.Tab("One picture", id="one"):
                self._picture = picture_input("Picture to look at", "detect-picture")
                examples = sorted(str(path) for path in EXAMPLES.glob("scene-*.png"))
                gr.Examples(examples, self._picture, label="Digit scenes to try")
            self._pictures, self._video, self._start_video, self._stop_video = several_and_video("detect", limits)
        kinds = ", ".join(suffix.lstrip(".") for suffix in VIDEOS)
        gr.HTML(
            facts_html(
                f"JPEG, PNG, WebP, BMP up to {limits.file_bytes / 1e6:g} MB and {limits.pixels / 1e6:g} megapixels",
                f"videos: {kinds}",
            ),
            elem_classes="limits",
            padding=False,
        )

    def _build_results(self) -> None:
        own = bool(self.first.score_thresholds)
        self._drawn = build_detection_picture("detect-drawn", 460)
        self._film = gr.Video(
            label="The video with what was found", interactive=False, visible=False, elem_id="detect-film",
            buttons=["download"], height=460,
        )  # fmt: skip
        self._gallery = gr.Gallery(
            label="All pictures; choose one to see it above", visible=False, columns=6, rows=1, height=150,
            allow_preview=False, object_fit="cover", elem_id="detect-gallery", buttons=[], interactive=False,
        )  # fmt: skip
        self._facts = gr.HTML(elem_id="detect-facts", padding=False)
        self._counts = gr.HTML(elem_id="detect-counts", padding=False)
        with gr.Group(elem_classes="controls"):
            self._threshold = gr.Slider(
                0, 1, start_threshold(self.first), step=0.01, label="Least score", elem_id="detect-threshold",
                info="Objects of which the model is less certain are left out",
            )  # fmt: skip
            self._classes = gr.Dropdown(
                list(self.first.classes), value=[], multiselect=True, label="Classes (all, if none is chosen)",
                elem_id="detect-classes",
            )  # fmt: skip
            with gr.Row():
                self._masks = gr.Checkbox(True, label="Show masks, where the model has them", elem_id="detect-masks")
                self._own = gr.Checkbox(
                    own, label="Each class's own least score, as the model stores it", visible=own, elem_id="detect-own"
                )
        with gr.Row():
            self._save_picture = gr.DownloadButton("Save picture", size="sm", elem_id="detect-save-picture")
            self._save_json = gr.DownloadButton("Save detections (JSON)", size="sm", elem_id="detect-save-json")
        with gr.Accordion("Table", open=True):
            self._table = gr.Dataframe(
                headers=COLUMNS, datatype=["str", "number", "number", "number", "number", "number"], interactive=False,
                label="Objects, boxes in pixels of the picture", max_height=260, elem_id="detect-table",
            )  # fmt: skip
        self._api_answer = gr.JSON(visible=False, label="detections")
        self._api_threshold = gr.Number(None, visible=False, label="least score; without it the model's own, or 0.5")
        self._api_classes = gr.Textbox("", visible=False, label="names with commas between them; empty for all")
        self._api_own = gr.Checkbox(True, visible=False, label="without a least score the model's own, not 0.5")
        self._api = gr.Button(visible=False)

    def _connect(self) -> None:
        choice = [self._threshold, self._own, self._classes, self._masks]
        shown = [
            self._drawn, self._gallery, self._facts, self._counts, self._table, self._save_picture, self._save_json,
            self._film,
        ]  # fmt: skip
        looked = [self._found, self._shown, *shown]
        asking: dict[str, Any] = {**MODEL_CALL, "api_visibility": "private", "show_progress_on": [self._drawn]}
        one = {
            "fn": self.look_at_one, "inputs": [self._picture, self._model, *choice], "outputs": looked,
            "trigger_mode": "always_last", **asking,
        }  # fmt: skip
        self._picture.change(**one)
        adopted = [self._threshold, self._own, self._classes]
        self._model.change(self._adopt, self._model, adopted, **VIEW_CALL).then(**one)
        gr.on(
            [self._pictures.upload, self._pictures.delete], self.look_at_several,
            [self._pictures, self._model, *choice], looked, trigger_mode="always_last", **asking,
        )  # fmt: skip
        filming = self._start_video.click(
            self.look_at_video, [self._video, self._model, *choice],
            [self._found, self._drawn, self._gallery, self._facts, self._counts, self._table, self._film], **asking,
        )  # fmt: skip
        self._stop_video.click(None, cancels=[filming], api_visibility="private")
        redrawing: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", **VIEW_CALL}
        self._threshold.input(
            self.show_above, [self._found, self._shown, self._threshold, self._classes, self._masks],
            [self._own, *shown], **redrawing,
        )  # fmt: skip
        gr.on(
            [self._own.input, self._classes.input, self._masks.input],
            self.show, [self._found, self._shown, *choice], shown, **redrawing,
        )  # fmt: skip
        self._gallery.select(
            self.choose, [self._found, *choice], [self._shown, *shown], show_progress="hidden", **VIEW_CALL
        )
        self._api.click(
            self.detect,
            [self._picture, self._model, self._api_threshold, self._api_classes, self._api_own, self._masks],
            self._api_answer, api_name="detect", **MODEL_CALL,
        )  # fmt: skip

    def _adopt(self, model: str) -> tuple[Any, Any, Any]:
        """The controls for another model."""
        finder = self.finders[model]
        own = bool(finder.score_thresholds)
        return (
            gr.update(value=start_threshold(finder)),
            gr.update(value=own, visible=own),
            gr.update(choices=list(finder.classes), value=[]),
        )

    @explained
    def look_at_one(
        self, upload: Upload | None, model: str, threshold: float, own: bool, classes: list[str], masks: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio looks for it there)
    ) -> tuple[Any, ...]:  # fmt: skip
        """Results for one picture."""
        return self._look([] if upload is None else [upload], model, _chosen(threshold, own, classes, masks), progress)

    @explained
    def look_at_several(
        self, uploads: list[Upload], model: str, threshold: float, own: bool, classes: list[str], masks: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        """Results for several pictures."""
        return self._look(uploads, model, _chosen(threshold, own, classes, masks), progress)

    def _look(self, uploads: list[Upload], model: str, chosen: Chosen, progress: gr.Progress) -> tuple[Any, ...]:
        if not uploads:
            return (None, 0, *self._nothing())

        def advance(done: int, total: int) -> None:
            progress((done, total), desc="looking", unit="pictures")

        found = find_in_uploads(self.finders[model], uploads, self.service.limits, advance)
        return (found, 0, *self._show(found, 0, chosen))

    @explained
    def show(
        self, found: Found | None, number: int, threshold: float, own: bool, classes: list[str], masks: bool
    ) -> tuple[Any, ...]:
        """The same results with another choice; the model is not asked."""
        if found is None:
            return (gr.skip(),) * 8
        return self._show(found, number, _chosen(threshold, own, classes, masks))

    @explained
    def show_above(
        self, found: Found | None, number: int, threshold: float, classes: list[str], masks: bool
    ) -> tuple[Any, ...]:
        """The same at another threshold, which from now on counts for every class."""
        return (False, *self.show(found, number, threshold, False, classes, masks))

    @explained
    def choose(
        self, found: Found | None, threshold: float, own: bool, classes: list[str], masks: bool, event: gr.SelectData
    ) -> tuple[Any, ...]:
        """Another of several pictures."""
        if found is None:
            return (gr.skip(),) * 9
        number = min(int(event.index), len(found.pictures) - 1)
        return (number, *self._show(found, number, _chosen(threshold, own, classes, masks), redraw=False))

    @explained
    def detect(
        self, picture: Upload | None, model: str, threshold: float | None = None, classes: str = "",
        own: bool = True, masks: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Find objects in one picture: with ``threshold`` all whose score is at least that, without it those that reach
        their class's own, if the model has them, or 0.5 (with ``own`` false always 0.5).

        Gives the picture's file name, height and width, and its detections: class, score, box as (x1, y1, x2, y2) in
        pixels, and of models with masks the mask in COCO's compressed form.
        """
        if picture is None:
            raise InputError("give a picture")
        finder = self.finders[model]
        chosen = Chosen(DEFAULT if threshold is None and not own else threshold, classes or (), masks)
        thresholds_by_class(finder, chosen.threshold, chosen.classes or None, "classes")  # before the model is asked
        found = find_in_uploads(finder, [picture], self.service.limits)
        answer = found.to_json(0, chosen)
        return {"model": model, "seconds": round(found.seconds, 4), **answer}

    @explained
    def look_at_video(
        self, upload: Upload | None, model: str, threshold: float, own: bool, classes: list[str], masks: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Drawn frames as they come, and in the end the whole as a film."""
        if upload is None:
            raise InputError("choose a video first")
        finder, chosen = self.finders[model], _chosen(threshold, own, classes, masks)
        stem = PurePath(upload.name).stem
        path = self.service.files.place(f"{stem}-found.mp4")
        begun, told, number = time.perf_counter(), 0.0, 0
        with short_video(upload, self.service.limits) as video:
            writer: VideoWriter | None = None
            try:
                for moment, picture in video.frames():
                    found = chosen.of(finder.find([picture])[0], finder)
                    drawn = draw_found(picture, found, finder.classes)
                    writer = writer or VideoWriter(path, (drawn.shape[0], drawn.shape[1]), video.rate).__enter__()
                    writer.add(drawn, moment)
                    number += 1
                    if time.perf_counter() - told > 0.2:  # browsers need no more, and each is a file
                        told = time.perf_counter()
                        yield self._frame(drawn, found, finder, f"frame {number} of about {video.expected}")
            except BaseException as error:
                if writer is not None:
                    writer.__exit__(type(error), error, None)
                raise
            if writer is None:
                raise InputError(f"{upload.name}: not a video that can be read")
            writer.__exit__(None, None, None)
            cut = f"only the first {self.service.limits.seconds:g} s" if video.cut else ""
        seconds = time.perf_counter() - begun
        facts = facts_html(model, plural(number, "frame"), duration(seconds), cut)
        film = gr.update(value=str(path), visible=True)
        yield None, gr.update(visible=False), gr.update(visible=False), facts, "", [], film

    def _frame(self, drawn: Picture, found: Detections, finder: Finder, place: str) -> tuple[Any, ...]:
        image = gr.update(value=self.service.files.picture(drawn, "frame"), visible=True)
        counts = counts_html(found, finder.classes)
        return (
            None,
            image,
            gr.update(visible=False),
            facts_html(finder.name, place),
            counts,
            [],
            gr.update(visible=False),
        )

    def _show(self, found: Found, number: int, chosen: Chosen, redraw: bool = True) -> tuple[Any, ...]:
        """What ``shown`` lists in ``_connect``, for picture ``number``."""
        picture, kept = found.pictures[number], found.chosen(number, chosen)
        several = len(found.pictures) > 1
        stem = PurePath(picture.sent.name).stem
        drawn = self._draw(found, number, kept)
        listed = {
            "model": found.model,
            "classes": list(found.classes),
            "pictures": [found.to_json(one, chosen) for one in range(len(found.pictures))],
        }
        facts = (
            found.model,
            plural(len(kept), "object"),
            duration(found.seconds) + (f" for {len(found.pictures)} pictures" if several else ""),
            extent(picture.size),
            picture.sent.name if several else "",
        )
        return (
            gr.update(value=drawn, visible=True, alt_text=spoken_summary(kept, found.classes, picture.sent.name)),
            self._thumbnails(found, chosen)
            if several and redraw
            else gr.skip()
            if several
            else gr.update(visible=False),
            facts_html(*facts),
            counts_html(kept, found.classes),
            table_rows(kept, found.classes),
            gr.update(value=drawn),
            gr.update(value=self.service.files.json(listed, "detections" if several else f"{stem}-detections")),
            gr.update(value=None, visible=False),
        )

    def _thumbnails(self, found: Found, chosen: Chosen) -> Any:
        kept = [found.chosen(number, chosen) for number in range(len(found.pictures))]
        drawn = [
            (self._draw(found, number, part), f"{found.pictures[number].sent.name}: {len(part)}")
            for number, part in enumerate(kept)
        ]
        return gr.update(value=drawn, visible=True)

    def _draw(self, found: Found, number: int, kept: Detections) -> str:
        sent = found.pictures[number].sent
        drawn = draw_found(sent.pixels(self.service.limits), kept, found.classes)
        return self.service.files.picture(drawn, f"{PurePath(sent.name).stem}-found")

    def _nothing(self) -> tuple[Any, ...]:
        """What ``shown`` lists in ``_connect``, before a picture is sent."""
        return (
            gr.update(value=None, visible=True, alt_text="Nothing yet: send a picture"),
            gr.update(value=None, visible=False),
            "",
            "",
            [],
            gr.update(value=None),
            gr.update(value=None),
            gr.update(value=None, visible=False),
        )


def _chosen(threshold: float, own: bool, classes: list[str] | None, masks: bool) -> Chosen:
    return Chosen(None if own else threshold, tuple(classes or ()), masks)


def build_detection_picture(element: str, height: int) -> gr.Image:
    """A place for a drawn picture.

    Args:
        element: its id in the page.
        height: in pixels of the screen.
    """
    return gr.Image(
        label="What was found", interactive=False, buttons=["download", "fullscreen"], elem_id=element,
        elem_classes="pictured", height=height, alt_text="Nothing yet: send a picture",
    )  # fmt: skip
