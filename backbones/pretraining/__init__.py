"""Training networks from scratch: section 3.4 (ImageNet) and section 4.2 (CIFAR-10)."""
