"""Table 1 printed: parameters and multiply-adds of networks, beside the paper's figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from backbones.analysis.options import ComplexityOptions
from backbones.building import build_backbone
from backbones.complexity import PAPER_MULTIPLY_ADDS, count_multiply_adds, count_parameters, fvcore_multiply_adds
from backbones.errors import InputError
from backbones.running.known_files import measurement_of
from backbones.running.measurement import write_measurement
from backbones.running.outputs import Kind, output_files
from backbones.variants import VARIANTS, ResNetVariant

WHAT = "parameters and multiply-adds of each network for one image"


@dataclass(frozen=True)
class Complexity:
    """One network for one image.

    Attributes:
        parameters: learnable numbers.
        multiply_adds: of convolutions and matrix products.
        size: side of the input.
        fvcore: multiply-adds by fvcore, if asked for.
    """

    parameters: int
    multiply_adds: int
    size: int
    fvcore: int | None = None


def measure_complexity(arch: str, size: int = 0, cross_check: bool = False) -> Complexity:
    """Count a network with the paper's number of classes: 10 for CIFAR networks, 1000 for others.

    Args:
        arch: its name.
        size: side of the input; 0 for the paper's, 32 or 224.
        cross_check: count by fvcore too.
    """
    variant = VARIANTS.get(arch)
    small = isinstance(variant, ResNetVariant) and variant.small_input
    network = build_backbone(arch, 10 if small else 1000)
    size = size or (32 if small else 224)
    fvcore = fvcore_multiply_adds(network, size) if cross_check else None
    return Complexity(count_parameters(network), count_multiply_adds(network, size), size, fvcore)


def run(options: ComplexityOptions) -> None:
    """Print one line for each network, and write what is asked for.

    Raises:
        InputError: an impossible size.
    """
    options = output_files(options, output=Kind("complexity.json", measurement_of(WHAT)))
    if options.size < 0:
        raise InputError(f"--size must be positive, or 0 for the paper's, not {options.size}")
    print(f"{'network':<14}{'parameters':>13}{'multiply-adds':>17}{'paper':>9}" + "   fvcore" * options.cross_check)
    measured = {}
    for name in options.arch:
        found = measured[name] = measure_complexity(name, options.size, options.cross_check)
        paper = PAPER_MULTIPLY_ADDS.get(name)
        line = f"{name:<14}{found.parameters:>13,}{found.multiply_adds:>17,}"
        line += f"{paper / 1e9:>7.1f}e9" if paper and found.size == 224 else " " * 9
        print(line + (f"   {found.fvcore:,}" if found.fvcore is not None else ""))
    if options.output:
        rows = {
            name: {key: value for key, value in asdict(found).items() if value is not None}
            for name, found in measured.items()
        }
        write_measurement(Path(options.output), WHAT, rows)
