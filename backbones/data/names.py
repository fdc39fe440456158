"""How classification data is called on command lines. No imports, so that ``--help`` is instant."""

from __future__ import annotations

NAMES = ("digits", "cifar10", "imagenet")
LAYOUTS = ("folder:DIR", "npz:FILE")
HELP = ", ".join((*NAMES, *LAYOUTS))
