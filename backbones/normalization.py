"""Raw pixels to network input, inside the model, so that a deployed graph takes uint8."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backbones.convention import InputConvention


class Normalize(nn.Module):
    """``(pixel - mean) / std`` in fp32, with everything outside the valid area set to exactly zero.

    The mean is three numbers, or a whole picture [3, H, W]: the per-pixel mean of sections 3.4 and 4.2. Of pictures
    of any other size, as multi-scale testing and detectors see, the mean picture's average is subtracted, channel by
    channel. Sizes are known when a graph is traced, so an exported one holds one of the two.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, convention: InputConvention, mean_image: Tensor | None = None) -> None:
        super().__init__()
        self.convention = convention
        mean = torch.tensor(convention.mean).reshape(3, 1, 1) if mean_image is None else mean_image.clone()
        self.register_buffer("mean", mean)
        self.register_buffer("inverse_std", 1 / torch.tensor(convention.std).reshape(3, 1, 1))

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Pixels [B, 3, H, W] (uint8 or float, RGB) and valid sizes [B, 2] -> [B, 3, H, W] float32."""
        pixels = images.float()
        if self.convention.channels == "BGR":
            pixels = pixels.flip(1)
        normalized = (pixels - self._mean_for(images)) * self.inverse_std
        return normalized if sizes is None else zero_outside(normalized, sizes)

    def _mean_for(self, images: Tensor) -> Tensor:
        if self.mean.shape[1:] == (1, 1) or self.mean.shape[1:] == images.shape[2:]:
            return self.mean
        return self.mean.mean((1, 2), keepdim=True)


def zero_outside(x: Tensor, sizes: Tensor) -> Tensor:
    """[B, C, H, W] with zeros beyond (height, width) = ``sizes`` [B, 2], so that padding looks like padding."""
    rows = torch.arange(x.shape[2], device=x.device)
    columns = torch.arange(x.shape[3], device=x.device)
    inside = (rows < sizes[:, :1])[:, None, :, None] & (columns < sizes[:, 1:])[:, None, None, :]
    return torch.where(inside, x, x.new_zeros(()))
