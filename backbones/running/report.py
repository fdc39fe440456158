"""A report in one HTML file: text, tables and pictures, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from backbones.images import Picture
from backbones.running.atomic_write import atomic_path, write_text
from backbones.running.known_files import GENERATOR

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #8884; }
figure { margin: .5rem 0; } figcaption { color: #777; font-size: .9rem; }
img { max-width: 100%; height: auto; } .row { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
.plot { background: white; border-radius: 6px; width: 500px; } .facts { columns: 20rem; column-gap: 3rem; }
table { border-collapse: collapse; font-size: .9rem; } td, th { padding: .1rem .8rem .1rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } th { border-bottom: 1px solid #8884; font-weight: 600; }
.facts div { display: flex; justify-content: space-between; gap: 1rem; } .facts span:last-child { text-align: right; }
"""


class Report:
    """Sections in the order in which they are added.

    Args:
        title: of the page.
        plots: a folder for the plots as PNG files besides; None keeps them in the page alone.
    """

    def __init__(self, title: str, plots: Path | None = None) -> None:
        self._title, self._plots = title, plots
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def facts(self, rows: Mapping[str, Any]) -> None:
        """Names and values, in as many columns as fit; floats with four digits."""
        lines = "".join(
            f"<div><span>{html.escape(name)}</span><span>{html.escape(_show(value))}</span></div>"
            for name, value in rows.items()
        )
        self._parts.append(f"<div class='facts'>{lines}</div>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Cells under a header, the first column to the left and the others to the right."""
        lines = [[f"<th>{html.escape(cell)}</th>" for cell in header]]
        lines += [[f"<td>{html.escape(cell)}</td>" for cell in row] for row in rows]
        self._parts.append(f"<table>{''.join('<tr>' + ''.join(line) + '</tr>' for line in lines)}</table>")

    @contextmanager
    def row(self) -> Iterator[None]:
        """What is added inside stands side by side where the window is wide enough."""
        self._parts.append("<div class='row'>")
        yield
        self._parts.append("</div>")

    def plot(self, figure: Any, caption: str, name: str) -> None:
        """A matplotlib figure, also written as ``name`` where plots are kept; it is closed."""
        from matplotlib import pyplot

        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
        pyplot.close(figure)
        if self._plots is not None:
            with atomic_path(self._plots / name) as partial:
                partial.write_bytes(stream.getvalue())
        self._image(stream.getvalue(), "png", caption, "plot")

    def training(
        self,
        records: Sequence[Mapping[str, Any]],
        losses: Sequence[str],
        marks: Sequence[str],
        title: str,
        caption: str,
    ) -> None:
        """A section of curves over iterations: losses, marks (under ``title``, with ``caption``) and the learning rate.

        Args:
            records: of ``metrics.jsonl``; nothing is added where there are none.
            losses, marks: names in the records; empty for no such curves.
            title, caption: of the marks.
        """
        if not records:
            return
        self.heading("Training")
        with self.row():
            if losses:
                self.plot(plot_records(records, losses, "losses"), "Means between log lines", "losses.png")
            if marks:
                self.plot(plot_records(records, marks, title), caption, f"{title.replace(' ', '_')}.png")
            if any("learning_rate" in record for record in records):
                self.plot(plot_records(records, ["learning_rate"], "learning rate"), "", "learning_rate.png")

    def pictures(self, pictures: Sequence[tuple[Picture, str]], width: int) -> None:
        """Pictures [H, W, 3] with captions, side by side, shown ``width`` pixels wide."""
        with self.row():
            for picture, caption in pictures:
                stream = io.BytesIO()
                Image.fromarray(picture).save(stream, format="JPEG", quality=88)
                self._image(stream.getvalue(), "jpeg", caption, "picture", f" width='{width}'")

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        title = html.escape(self._title)
        write_text(
            path,
            f"<!doctype html><html lang='en'><meta charset='utf-8'>{GENERATOR}"
            "<meta name='viewport' content='width=device-width'>"
            f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{''.join(self._parts)}</html>\n",
        )

    def _image(self, content: bytes, kind: str, caption: str, style: str, attributes: str = "") -> None:
        data = base64.b64encode(content).decode()
        alt = html.escape(caption, quote=True)
        self._parts.append(
            f"<figure><img class='{style}'{attributes} alt='{alt}' src='data:image/{kind};base64,{data}'>"
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure and its axes, drawn without a display."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(width, height), squeeze=False)
    for axis in axes[0]:
        axis.grid(True, alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0] if columns > 1 else axes[0][0]


STEP_VALUES = ("step", "time", "learning_rate")
"""What records hold besides losses and marks."""


def recorded(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all losses and marks in records, in the order in which they first appear."""
    return list(dict.fromkeys(name for record in records for name in record if name not in STEP_VALUES))


def plot_records(records: Sequence[Mapping[str, Any]], names: Sequence[str], title: str) -> Any:
    """Curves of logged values over steps."""
    figure, axis = new_figure(7, 3)
    for name in names:
        points = [(record["step"], record[name]) for record in records if name in record]
        if points:
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1.3, marker="." if len(points) < 40 else None)
    axis.set(title=title, xlabel="iteration")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _show(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
