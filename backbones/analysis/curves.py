"""Figs. 1, 4 and 6: training error dashed, test error solid, against iterations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbones.analysis.drawing import SMALL, TEXT, color_of, new_panels, save_figure
from backbones.analysis.names import is_plain, layers_in
from backbones.analysis.options import CurveOptions
from backbones.analysis.run_records import TEST, TRAIN, Curve, Network, bring_together, find_runs, read_run
from backbones.errors import InputError
from backbones.running.known_files import is_figure, measurement_of
from backbones.running.measurement import write_measurement
from backbones.running.outputs import Kind, output_files
from backbones.running.progress import start_logging

WHAT = "last errors of training runs, in per cent"
logger = logging.getLogger("shortcut")
POINTS = 160
"""Most points of a line: training error is a mean over the iterations between two of them."""
_IN_TEN_THOUSANDS = 5_000  # from so many iterations on, the axis counts as the paper's does


@dataclass(frozen=True)
class Panel:
    """A part of the figure: some networks, and which of their errors it shows."""

    title: str
    networks: Sequence[Network]
    train: bool = True
    test: bool = True


def panels_by_kind(networks: Sequence[Network]) -> list[Panel]:
    """Plain and residual networks side by side (Figs. 4 and 6); more than 1000 layers in a panel of their own,
    beside the network of 110."""
    plain = [network for network in networks if is_plain(network.arch)]
    deepest = [network for network in networks if layers_in(network.arch) > 1000]
    others = [network for network in networks if network not in plain and network not in deepest]
    beside = [network for network in others if layers_in(network.arch) == 110]
    residual = all(network.arch.startswith("resnet") for network in others)
    panels = [
        Panel("plain networks", plain),
        Panel("residual networks" if residual else "networks", others),
        Panel("more than 1000 layers", [*beside, *deepest] if deepest else []),
    ]
    return [panel for panel in panels if panel.networks]


def panels_by_error(networks: Sequence[Network]) -> list[Panel]:
    """Training error on the left, test (or validation) error on the right (Fig. 1)."""
    train = [network for network in networks if network.train is not None]
    test = [network for network in networks if network.test is not None]
    panels = [Panel("training error", train, test=False), Panel(f"{evaluated(networks)} error", test, train=False)]
    return [panel for panel in panels if panel.networks]


PANELS: dict[str, Callable[[Sequence[Network]], list[Panel]]] = {"kind": panels_by_kind, "error": panels_by_error}


def evaluated(networks: Sequence[Network]) -> str:
    """What the solid lines measure: ``test`` only if every run was evaluated on its test split."""
    return "test" if all(run.evaluated == "test" for network in networks for run in network.runs) else "validation"


def draw_curves(networks: Sequence[Network], panels: str = "kind", top: float = 0.0) -> Any:
    """The figure.

    Args:
        networks: from ``bring_together``.
        panels: ``kind`` or ``error``.
        top: largest error shown, in per cent; 0 for one that fits what follows the first fifth of the iterations.
    """
    depths = sorted({layers_in(network.arch) for network in networks})
    shown = PANELS[panels](networks)
    last = max(int(curve.steps[-1]) for network in networks for curve in _curves(network))
    unit = 10_000 if last >= _IN_TEN_THOUSANDS else 1
    limit = top or fitting_top(networks, last)
    figure, axes = new_panels(len(shown))
    for axis, panel in zip(axes, shown, strict=True):
        ends = []
        for number, network in enumerate(panel.networks):
            rivals = len({other.arch for other in networks}) < len(networks) and panels == "kind"
            color = color_of(number if rivals or panels == "error" else depths.index(layers_in(network.arch)))
            alone = not (panel.test and network.test is not None)
            if panel.train and network.train is not None:
                style: dict[str, Any] = {"linewidth": 1.4, "dashes": (4, 1.6)}
                _draw(axis, network.train.binned(POINTS), unit, color, network.label if alone else "", style)
            if panel.test and network.test is not None:
                _draw(axis, network.test, unit, color, network.label, {"linewidth": 2.0})
            final = network.train if alone else network.test
            assert final is not None
            ends.append((float(final.mean[-1]), float(final.steps[-1]) / unit, color))
        axis.set(xlim=(0, last / unit), ylim=(0, limit))
        axis.set_title(panel.title, fontsize=TEXT)
        axis.set_xlabel("iter. (1e4)" if unit > 1 else "iter.", fontsize=TEXT)
        axis.set_ylabel("error (%)", fontsize=TEXT)
        axis.legend(frameon=False, fontsize=SMALL, loc="upper right")
        _write_ends(axis, ends, limit, last / unit)
    _explain(figure, axes[0], shown)
    figure.tight_layout()
    return figure


def fitting_top(networks: Sequence[Network], last: int) -> float:
    """The multiple of 5 per cent below which 95 % of every curve lies, its beginning left out; at least 5, at most 100.

    Errors start near 90 %: shown whole, the end, which matters, would be a few pixels high.
    """
    levels = []
    for network in networks:
        for curve in _curves(network):
            late = curve.mean[curve.steps >= min(last, int(curve.steps[-1])) / 5]
            levels.append(float(np.quantile(late, 0.95)))
    return min(100.0, max(5.0, 5.0 * math.ceil(max(levels) / 5 + 0.01)))


def end_values(networks: Sequence[Network]) -> dict[str, dict[str, Any]]:
    """The last recorded errors of each network in per cent: mean and deviation over its seeds."""
    results: dict[str, dict[str, Any]] = {}
    for network in networks:
        entry: dict[str, Any] = {"arch": network.arch, "seeds": [run.seed for run in network.runs]}
        entry |= {"dataset": dict(network.runs[0].settings)["dataset"]}
        entry |= {"evaluated": network.runs[0].evaluated}
        for name, curve in ((TRAIN, network.train), (TEST, network.test)):
            if curve is not None:
                mean, deviation = float(curve.mean[-1]), float(curve.deviation[-1])
                entry[name] = {"step": int(curve.steps[-1]), "mean": mean, "std": deviation}
        results[network.label] = entry
    return results


def run(options: CurveOptions) -> None:
    """Read the runs, draw, print and write their end values.

    Raises:
        InputError: no run, or one without records.
    """
    figure = Kind("curves.png", is_figure, beside=(".json", measurement_of(WHAT)))
    options = output_files(options, output=figure)
    output = Path(options.output)
    if not 0 <= options.top <= 100:
        raise InputError(f"--top is an error in per cent, 0 to 100, not {options.top:g}")
    start_logging(options.quiet)
    networks = bring_together([read_run(path) for path in find_runs(options.run)])
    networks.sort(key=lambda network: (not is_plain(network.arch), layers_in(network.arch)))
    for network in networks:
        if network.train is None and network.test is None:
            raise InputError(f"{network.runs[0].path}: its records share no iteration with those of the other seeds")
    if all(network.train is None for network in networks):
        logger.info("no run recorded its training error: only test error is drawn")
    ends = end_values(networks)
    print(f"{'network':<34}{'seeds':>6}{'training error':>16}{evaluated(networks) + ' error':>18}")
    for label, entry in ends.items():
        cells = [_cell(entry.get(name)) for name in (TRAIN, TEST)]
        print(f"{label:<34}{len(entry['seeds']):>6}{cells[0]:>16}{cells[1]:>18}")
    save_figure(draw_curves(networks, options.panels, options.top), output)
    write_measurement(output.with_suffix(".json"), WHAT, ends)
    print(f"{output} and {output.with_suffix('.json').name}")


def _cell(end: dict[str, Any] | None) -> str:
    if end is None:
        return ""
    return f"{end['mean']:.2f}" + (f" +- {end['std']:.2f}" if end["std"] else "")


def _curves(network: Network) -> list[Curve]:
    return [curve for curve in (network.train, network.test) if curve is not None]


def _draw(axis: Any, curve: Curve, unit: int, color: str, label: str, style: dict[str, Any]) -> None:
    steps = curve.steps / unit
    axis.plot(steps, curve.mean, color=color, label=label or None, **style)
    if len(curve.values) > 1:
        low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
        axis.fill_between(steps, low, high, color=color, alpha=0.13, linewidth=0)


def _write_ends(axis: Any, ends: Sequence[tuple[float, float, str]], limit: float, right: float) -> None:
    """The last value of each line in bold beside it, moved apart where they would overlap."""
    ends = sorted(end for end in ends if end[0] <= limit)
    for height, (value, step, color) in zip(moved_apart([end[0] for end in ends], limit / 22), ends, strict=True):
        axis.annotate(
            f"{value:.2f}", (step, height), xytext=(4, 0), textcoords="offset points", color=color, fontsize=SMALL,
            fontweight="bold", va="center", annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5} if step < right else None,
        )  # fmt: skip


def moved_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights with at least ``gap`` between neighbours; a cluster spreads around its mean, above zero."""
    clusters: list[list[float]] = []
    for height in heights:
        clusters.append([height])
        while len(clusters) > 1 and _bottom(clusters[-1], gap) < _bottom(clusters[-2], gap) + gap * len(clusters[-2]):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [_bottom(cluster, gap) + gap * place for cluster in clusters for place in range(len(cluster))]


def _bottom(cluster: Sequence[float], gap: float) -> float:
    return max(0.0, sum(cluster) / len(cluster) - gap * (len(cluster) - 1) / 2)


def _explain(figure: Any, axis: Any, panels: Sequence[Panel]) -> None:
    """One line above the panels that says what dashes, bands and numbers mean."""
    networks = [network for panel in panels for network in panel.networks]
    parts = []
    if any(panel.train for panel in panels) and any(network.train is not None for network in networks):
        parts.append("dashed: training error")
    if any(panel.test for panel in panels) and any(network.test is not None for network in networks):
        parts.append(f"solid: {evaluated(networks)} error")
    if any(len(network.runs) > 1 for network in networks):
        parts.append("band: one standard deviation over the seeds")
    figure.suptitle(", ".join(parts), fontsize=SMALL, color="#555555")
