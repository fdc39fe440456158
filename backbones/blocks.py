"""The building blocks of section 3: basic and bottleneck (Fig. 5), their plain counterpart, shortcuts A, B, C."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from backbones.batch_norm import convolve
from backbones.variants import BlockKind, ShortcutOption, StridePlacement


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias, padded to keep the size."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class PaddedShortcut(nn.Module):
    """Option A: the identity, subsampled by the stride, with zeros for the new channels (appended last).

    [B, C_in, H, W] -> [B, C_out, H/stride, W/stride]; no parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        subsampled = functional.max_pool2d(x, 1, self.stride)  # one operator; engines misread strided slices
        return functional.pad(subsampled, (0, 0, 0, 0, 0, self.new_channels))


class ProjectionShortcut(nn.Module):
    """Equation 2: a 1x1 convolution with the stride, and batch normalization (options B and C).

    [B, C_in, H, W] -> [B, C_out, H/stride, W/stride].
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = conv1x1(in_channels, out_channels, stride)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.conv, self.bn)

    def convolution_pairs(self) -> list[tuple[str, str]]:
        return [("conv", "bn")]


def make_shortcut(option: ShortcutOption, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut of one block under option A, B or C (section 3.3)."""
    grows = stride != 1 or in_channels != out_channels
    if option == "C" or (option == "B" and grows):
        return ProjectionShortcut(in_channels, out_channels, stride)
    if grows:
        return PaddedShortcut(in_channels, out_channels, stride)
    return nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (Fig. 5, left); without a shortcut, the plain network's pair of layers.

    [B, C_in, H, W] -> [B, width, H/stride, W/stride]. Batch normalization follows each convolution, and the
    last ReLU the addition (section 3.4).
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(convolve(x, self.conv1, self.bn1))
        out = convolve(out, self.conv2, self.bn2)
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        activated: Tensor = self.relu(out)
        return activated

    def convolution_pairs(self) -> list[tuple[str, str]]:
        return [("conv1", "bn1"), ("conv2", "bn2")]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions (Fig. 5, right); the last widens four times.

    [B, C_in, H, W] -> [B, 4 * width, H/stride, W/stride].
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, shortcut: nn.Module, stride_on: StridePlacement = "1x1"
    ) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, width, stride if stride_on == "1x1" else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride if stride_on == "3x3" else 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, width * self.expansion)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(convolve(x, self.conv1, self.bn1))
        out = self.relu(convolve(out, self.conv2, self.bn2))
        out = convolve(out, self.conv3, self.bn3)
        activated: Tensor = self.relu(out + self.shortcut(x))
        return activated

    def convolution_pairs(self) -> list[tuple[str, str]]:
        return [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")]


def make_stage(
    kind: BlockKind,
    option: ShortcutOption,
    stride_on: StridePlacement,
    in_channels: int,
    width: int,
    blocks: int,
    stride: int,
) -> nn.Sequential:
    """One of conv2_x to conv5_x: ``blocks`` blocks, the first with the stride (Table 1)."""
    out_channels = width * (Bottleneck.expansion if kind == "bottleneck" else BasicBlock.expansion)
    stage = nn.Sequential()
    for index in range(blocks):
        first = index == 0
        block_in, block_stride = (in_channels, stride) if first else (out_channels, 1)
        shortcut = None if kind == "plain" else make_shortcut(option, block_in, out_channels, block_stride)
        if kind == "bottleneck":
            assert shortcut is not None
            stage.append(Bottleneck(block_in, width, block_stride, shortcut, stride_on))
        else:
            stage.append(BasicBlock(block_in, width, block_stride, shortcut))
    return stage
