"""Fig. 7: the standard deviation of each 3x3 layer's response.

A response is what batch normalization puts out, before ReLU and, at the end of a residual block, before the
addition (section 4.2). The deviation is over all of it: pictures, positions and channels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backbones.analysis.drawing import SMALL, TEXT, color_of, new_panels, save_figure
from backbones.analysis.names import display_name, is_plain
from backbones.analysis.options import ResponseOptions
from backbones.batch_norm import FrozenBatchNorm2d
from backbones.classifier import Classifier, load_classifier
from backbones.data.datasets import read_classification
from backbones.data.labelled import LabelledPictures
from backbones.errors import InputError
from backbones.framing import frame_for_classifier
from backbones.images import Picture
from backbones.running.known_files import is_figure, measurement_of
from backbones.running.measurement import write_measurement
from backbones.running.outputs import Kind, output_files
from backbones.running.precision import choose_device
from backbones.running.progress import start_logging

WHAT = "standard deviations of the 3x3 layers' responses (Fig. 7)"
logger = logging.getLogger("shortcut")


@dataclass
class Spread:
    """Mean and spread of numbers that come in batches, in double precision and without their sum of squares.

    Batches are merged by their means and squared distances from them (Chan et al. 1979), so a large common value
    cancels nothing. The numbers stay on their device until ``deviation`` asks for them.
    """

    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take in a batch of any shape."""
        values = values.detach().double()
        mean = values.mean()
        squares = (values - mean).square().sum()
        total = self.count + values.numel()
        distance = mean - self.mean
        self.squares = self.squares + squares + distance**2 * (self.count * values.numel() / total)
        self.mean = self.mean + distance * (values.numel() / total)
        self.count = total

    def deviation(self) -> float:
        """The standard deviation of all values (divided by their number)."""
        return float(self.squares / self.count) ** 0.5 if self.count else 0.0


@dataclass(frozen=True)
class Responses:
    """Deviations of one network.

    Attributes:
        label: how the figure calls it.
        arch: the network.
        layers: names of the 3x3 convolutions in calling order.
        deviations: of their responses, in the same order.
    """

    label: str
    arch: str
    layers: tuple[str, ...] = field(repr=False)
    deviations: tuple[float, ...]

    def ranked(self) -> list[float]:
        """Largest first, as in the lower half of Fig. 7."""
        return sorted(self.deviations, reverse=True)


def layer_responses(network: nn.Module, batches: Iterable[Tensor]) -> dict[str, float]:
    """The deviation of each 3x3 layer's response, by the layer's name, in calling order.

    Args:
        network: from ``build_backbone``; its normalization may be frozen, or folded into the convolutions.
        batches: its input, [B, 3, H, W] normalized images on its device.

    Raises:
        InputError: it has no 3x3 layer with batch normalization (VGG), or there is no batch.
    """
    training = network.training
    network.eval()
    spreads: dict[str, Spread] = {}
    with torch.inference_mode(), _watched(network, spreads):
        for batch in batches:
            network(batch)
    network.train(training)
    if not spreads:
        raise InputError("there is nothing to measure: no pictures, or a network without batch normalization")
    return {name: spread.deviation() for name, spread in spreads.items()}


@contextmanager
def _watched(network: nn.Module, spreads: dict[str, Spread]) -> Iterator[None]:
    """Let every normalization behind a 3x3 convolution report its output.

    A frozen one is never called, since it merges with its convolution (``backbones.batch_norm.convolve``): for the
    time being it hides in a container, which is not merged, and the container reports.
    """
    restored: list[tuple[nn.Module, str, nn.Module]] = []
    handles = []
    try:
        for prefix, owner in list(network.named_modules()):
            pairs = getattr(owner, "convolution_pairs", None)
            for conv_name, norm_name in pairs() if pairs else ():
                conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
                if conv.kernel_size != (3, 3):
                    continue
                if isinstance(norm, FrozenBatchNorm2d):
                    restored.append((owner, norm_name, norm))
                    norm = nn.Sequential(norm)
                    setattr(owner, norm_name, norm)
                handles.append(norm.register_forward_hook(_reporter(f"{prefix}.{conv_name}", spreads)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for owner, norm_name, norm in restored:
            setattr(owner, norm_name, norm)


def _reporter(name: str, spreads: dict[str, Spread]) -> Any:
    def report(module: nn.Module, inputs: Any, output: Tensor) -> None:
        # At once: the ReLU that follows overwrites the tensor. A first call puts the name in calling order.
        spreads.setdefault(name, Spread()).add(output)

    return report


def classifier_responses(
    model: Classifier, data: LabelledPictures, numbers: Sequence[int], batch_size: int, label: str
) -> Responses:
    """The responses of a trained classifier to some pictures, framed and normalized as it expects."""

    def batches() -> Iterator[Tensor]:
        framed = (frame_for_classifier(data.picture(number), model.convention) for number in numbers)
        for batch in _stacks(framed, batch_size):
            pixels = torch.from_numpy(batch).to(model.normalize.mean.device).permute(0, 3, 1, 2)
            yield model.normalize(pixels)

    try:
        found = layer_responses(model.network, batches())
    except InputError as error:
        raise InputError(f"{label}: {error}") from error
    return Responses(label, model.backbone, tuple(found), tuple(found.values()))


def evenly_spaced(total: int, wanted: int) -> list[int]:
    """``wanted`` numbers below ``total``, spread over all of them, since files may be sorted by class; 0 for all."""
    if wanted <= 0 or wanted >= total:
        return list(range(total))
    return [int(place) for place in (np.arange(wanted) + 0.5) * total / wanted]


def draw_responses(all_responses: Sequence[Responses]) -> Any:
    """Fig. 7: layers in their order on the left, by size on the right; plain networks dashed."""
    figure, (in_order, by_size) = new_panels(2, width=7.4, height=4.8)
    for number, responses in enumerate(all_responses):
        style: dict[str, Any] = {
            "color": color_of(number),
            "linestyle": "--" if is_plain(responses.arch) else "-",
            "linewidth": 1.6,
            "marker": "." if len(responses.deviations) < 40 else None,
            "label": responses.label,
        }
        places = range(1, len(responses.deviations) + 1)
        in_order.plot(places, responses.deviations, **style)
        by_size.plot(places, responses.ranked(), **style)
    in_order.set_xlabel("layer, in the network's order", fontsize=TEXT)
    by_size.set_xlabel("layer, by size of the response", fontsize=TEXT)
    top = max((max(responses.deviations) for responses in all_responses), default=1.0)
    for axis in (in_order, by_size):
        axis.set_ylabel("standard deviation", fontsize=TEXT)
        axis.set_ylim(0, 1.05 * top)
        axis.set_xlim(left=0)
    by_size.legend(frameon=False, fontsize=SMALL)
    figure.tight_layout()
    return figure


def run(options: ResponseOptions) -> None:
    """Measure, print the median of each model, draw, and write the numbers.

    Raises:
        InputError: no model, or one or the data cannot be used.
    """
    figure = Kind("responses.png", is_figure, beside=(".json", measurement_of(WHAT)))
    options = output_files(options, reads=options.model, data=(options.dataset, options.data_dir), output=figure)
    output = Path(options.output)
    if not options.model:
        raise InputError("give --model: one or more run folders or weights")
    if options.batch_size <= 0:
        raise InputError(f"--batch-size must be positive, not {options.batch_size}")
    start_logging(options.quiet)
    device = choose_device(options.device)
    models = [load_classifier(source, options.arch).to(device) for source in options.model]
    data = read_classification(options.dataset, options.split, data_dir=options.data_dir)
    numbers = evenly_spaced(len(data.labels), options.images)
    labels = label_models([model.backbone for model in models], options.model)
    measured = []
    for model, label in zip(models, labels, strict=True):
        logger.info("%s: %d pictures of %s %s", label, len(numbers), options.dataset, options.split)
        measured.append(classifier_responses(model, data, numbers, options.batch_size, label))
    print(f"{'network':<34}{'layers':>7}{'median':>9}{'largest':>9}")
    for responses in measured:
        values = responses.deviations
        print(f"{responses.label:<34}{len(values):>7}{np.median(values):>9.3f}{max(values):>9.3f}")
    results = {
        responses.label: {
            "arch": responses.arch,
            "dataset": options.dataset,
            "split": options.split,
            "images": len(numbers),
            "layers": list(responses.layers),
            "deviations": list(responses.deviations),
        }
        for responses in measured
    }
    write_measurement(output.with_suffix(".json"), WHAT, results)
    save_figure(draw_responses(measured), output)
    print(f"{output} and {output.with_suffix('.json').name}")


def label_models(archs: Sequence[str], sources: Sequence[str]) -> list[str]:
    """A label for each model: its network's name, with its file's where two have one network, numbered if need be."""
    labels: list[str] = []
    for arch, source in zip(archs, sources, strict=True):
        label = display_name(arch) if archs.count(arch) == 1 else f"{display_name(arch)} ({Path(source).name})"
        again = sum(1 for other in labels if other == label or other.startswith(f"{label} #"))
        labels.append(f"{label} #{again + 1}" if again else label)
    return labels


def _stacks(pictures: Iterable[Picture], size: int) -> Iterator[Picture]:
    iterator = iter(pictures)
    while batch := list(islice(iterator, size)):
        yield np.stack(batch)
