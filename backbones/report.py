"""``report.html`` of a classification run: curves, error rates, confused classes, the worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.data.labelled import LabelledPictures
from backbones.evaluation import rates_of
from backbones.images import Picture, fit_size, resize
from backbones.protocols.scoring import softmax
from backbones.running.report import Report, new_figure, recorded

SHOWN = 12
PAIRS = 20
MATRIX_CLASSES = 25  # larger confusion matrices cannot be read
_SIDE = 160  # of the pictures shown


def write_report(
    path: Path,
    title: str,
    records: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    scores: NDArray[np.floating],
    data: LabelledPictures,
) -> None:
    """Write the report, and its plots as PNG in the folder ``plots`` beside it.

    Args:
        path: ``report.html``.
        title: of the page.
        records: of ``metrics.jsonl``, for curves over iterations; may be empty.
        facts: how the model was made.
        scores: [N, K], logits or probabilities, of every picture of ``data``.
        data: the evaluated split.
    """
    probabilities = as_probabilities(scores)
    guesses = probabilities.argmax(1)
    report = Report(title, path.parent / "plots")
    report.heading(f"Errors on {len(data.labels)} pictures")
    report.facts(_marks(probabilities, data))
    names = recorded(records)
    errors = [name for name in names if name.endswith("_error")]
    report.training(records, [name for name in names if name not in errors], errors, "errors", "In per cent")
    confused = confusion(guesses, data.labels, len(data.classes))
    report.heading("Confused classes")
    with report.row():
        if len(data.classes) <= MATRIX_CLASSES:
            matrix = plot_confusion(confused, data.classes)
            report.plot(matrix, "Pictures of a row's class taken for a column's", "confusion.png")
        report.plot(_class_bars(confused, data.classes), "Error of each class, the worst first", "classes.png")
    pairs = most_confused(confused, data.classes)
    if pairs:
        report.facts(pairs)
    report.heading("Worst mistakes")
    worst = worst_mistakes(probabilities, data.labels)
    if len(worst):
        report.paragraph("Those whose right class got the least probability.")
        report.pictures([_explained(int(number), probabilities, data) for number in worst], width=_SIDE)
    else:
        report.paragraph("None: every picture is right.")
    report.heading("How it was made")
    report.facts(facts)
    report.write(path)


def as_probabilities(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows [N, K] that sum to one, as they are if they do so already (10-crop averages softmax), else by softmax."""
    exact: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    if (exact >= 0).all() and np.allclose(exact.sum(1), 1, atol=1e-3):
        return exact
    return softmax(exact)


def confusion(guesses: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """[K, K]: how many pictures of each class (row) were taken for each class (column)."""
    counts = np.bincount(labels.astype(np.int64) * classes + guesses, minlength=classes**2)
    return counts.reshape(classes, classes)


def most_confused(counts: NDArray[np.int64], classes: Sequence[str]) -> dict[str, str]:
    """The most frequent mistakes, each with its number and its share of the class."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    totals = counts.sum(1)
    pairs = {}
    for place in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]:
        row, column = divmod(int(place), len(classes))
        if not wrong[row, column]:
            break
        share = wrong[row, column] / totals[row]
        pairs[f"{classes[row]} taken for {classes[column]}"] = f"{wrong[row, column]} of {totals[row]} ({share:.1%})"
    return pairs


def worst_mistakes(probabilities: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Numbers of the wrong pictures whose right class got the least, at most ``SHOWN``."""
    right = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(right, kind="stable")
    wrong = probabilities.argmax(1) != labels
    worst: NDArray[np.int64] = order[wrong[order]][:SHOWN]
    return worst


def _marks(probabilities: NDArray[np.float64], data: LabelledPictures) -> dict[str, str]:
    rates = rates_of(probabilities, data.labels)
    chosen = np.maximum(probabilities[np.arange(len(data.labels)), data.labels], 1e-12)
    return {
        "top-1 error": f"{rates.top1:.2f} %",
        "top-5 error": f"{rates.top5:.2f} %",
        "cross entropy": f"{-np.log(chosen).mean():.4f}",
        "mean probability of the guess": f"{probabilities.max(1).mean():.1%}",
        "classes": str(len(data.classes)),
    }


def plot_confusion(counts: NDArray[np.int64], classes: Sequence[str]) -> Any:
    """Counts of a row's class taken for a column's; the shade is the share of the row."""
    figure, axis = new_figure(6.4, 5.6)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.grid(False)
    for row, column in np.argwhere(counts > 0):
        color = "white" if shares[row, column] > 0.5 else "black"
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=color)
    places = range(len(classes))
    axis.set_xticks(places, classes, rotation=45 if max(map(len, classes)) > 2 else 0, ha="right", fontsize=8)
    axis.set_yticks(places, classes, fontsize=8)
    axis.set(xlabel="taken for", ylabel="class")
    return figure


def _class_bars(counts: NDArray[np.int64], classes: Sequence[str]) -> Any:
    totals = counts.sum(1)
    errors = 100 * (1 - np.diag(counts) / np.maximum(totals, 1))
    order = [int(label) for label in np.argsort(-errors, kind="stable") if totals[label]][:MATRIX_CLASSES][::-1]
    figure, axis = new_figure(6, 0.8 + 0.24 * len(order))
    axis.barh([classes[label] for label in order], [errors[label] for label in order], color="#4a7fb5")
    axis.set(xlabel="error (%)", xlim=(0, max(1.0, float(errors.max()) * 1.05)))
    return figure


def _explained(number: int, probabilities: NDArray[np.float64], data: LabelledPictures) -> tuple[Picture, str]:
    guess, label = int(probabilities[number].argmax()), int(data.labels[number])
    caption = (
        f"{number}: taken for {data.classes[guess]} ({probabilities[number, guess]:.0%}), "
        f"in truth {data.classes[label]} ({probabilities[number, label]:.1%})"
    )
    return _shown(data.picture(number)), caption


def _shown(picture: Picture) -> Picture:
    """Small pictures in larger pixels, which stay sharp; large ones made smaller."""
    times = _SIDE // min(picture.shape[:2])
    if times > 1:
        return np.repeat(np.repeat(picture, times, 0), times, 1)
    shorter = min(2 * _SIDE, *picture.shape[:2])
    return resize(picture, fit_size((picture.shape[0], picture.shape[1]), shorter))
