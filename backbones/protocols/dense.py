"""Classifiers applied at every position of a picture of any size, and averaged (section 3.4, "fully convolutional").

The paper takes this form from VGG, whose authors average the map of class scores over positions, before the softmax,
and the softmax outputs over pictures. So do we: logits are averaged over the positions of one scale, and the softmax
of that mean is averaged over scales. Mirror images are not added: the paper does not mention them here.

A residual network ends in an average over all positions and one linear layer. Since both are linear, the mean of the
logits at each position of the last map is the logit of the mean, which is what the network computes on a picture of
any size. (Read literally, as for VGG, its 7x7 average pooling would slide over the map, so that positions near the
border counted less.) In VGG's networks the ReLUs between the linear layers make a difference: fc6 becomes a
convolution of 7x7, fc7 and fc8 convolutions of 1x1.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from backbones.classifier import Classifier
from backbones.contract import Backbone
from backbones.errors import InputError
from backbones.resnet import ResNet
from backbones.vgg import VGG

_VGG_WINDOW = 7


def dense_logits(network: Backbone, images: Tensor) -> Tensor:
    """Logits averaged over positions: normalized [B, 3, H, W] -> [B, K].

    Raises:
        InputError: it is not known how to apply this network densely, or a picture is smaller than its window.
    """
    if isinstance(network, ResNet):
        logits: Tensor = network(images)
        return logits
    if isinstance(network, VGG):
        return vgg_score_map(network, images).mean((2, 3))
    raise InputError(
        f"{type(network).__name__}: multi-scale testing is known for the residual, plain and VGG networks; use "
        "--protocol 10-crop"
    )


def vgg_score_map(network: VGG, images: Tensor) -> Tensor:
    """VGG's three linear layers as convolutions. [B, 3, H, W] -> [B, K, H // 32 - 6, W // 32 - 6]."""
    x: Tensor = network.pool(network.features(images)["c5"])
    if min(x.shape[2:]) < _VGG_WINDOW:
        raise InputError(f"VGG needs pictures of at least 224 x 224, this one is {images.shape[2]} x {images.shape[3]}")
    window = _VGG_WINDOW
    for layer in network.classifier.children():
        if isinstance(layer, nn.Linear):
            weight = layer.weight.reshape(layer.out_features, -1, window, window)
            x, window = functional.conv2d(x, weight, layer.bias), 1
        else:
            x = layer(x)
    return x


class DenseClassifier(Classifier):
    """A classifier whose logits are ``dense_logits``, for pictures of any size.

    Args:
        classifier: normalization and network, which are shared.

    Raises:
        InputError: as ``dense_logits``.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier.backbone, classifier.network, classifier.normalize, classifier.classes)
        self.train(classifier.training)

    def forward(self, images: Tensor) -> Tensor:
        return dense_logits(self.network, self.normalize(images))
