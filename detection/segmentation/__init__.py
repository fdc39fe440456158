"""Semantic segmentation: a fully convolutional head on dilated backbones, a class for every pixel."""
