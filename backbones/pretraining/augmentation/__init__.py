"""What training does to its pictures: section 4.2 (CIFAR), section 3.4 (ImageNet), and today's."""
