"""How detection data is called on command lines. No imports, so that ``--help`` is instant."""

from __future__ import annotations

NAMES = ("digits", "coco", "coco2014", "voc2007", "voc2012", "voc0712", "voc0712++")
LAYOUTS = ("voc:DIR", "coco:DIR", "yolo:DIR")
HELP = ", ".join((*NAMES, *LAYOUTS))

_DEFAULTS = {"coco": ("train2017", "val2017"), "coco2014": ("train2014", "val2014")}


def default_splits(name: str) -> tuple[str, str]:
    """The split to train on and the one to choose by, as ``read_dataset`` takes them.

    For ``voc0712`` the latter is the test set of 2007, as in the field's tables; for ``voc0712++`` it is the validation
    part of 2012, which ``train`` then leaves out.
    """
    return _DEFAULTS.get(name, ("train", "val"))
