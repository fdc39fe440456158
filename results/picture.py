#!/usr/bin/env python
"""README's picture, from what the quickstart drew: ``python results/picture.py [runs/quickstart/pictures]``."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "detections.jpg"
COLUMNS, ROWS, SIDE, GAP = 4, 2, 360, 8


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart/pictures")
    files = sorted(folder.glob("*.png"))[: COLUMNS * ROWS]
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) - GAP, ROWS * (SIDE + GAP) - GAP), "white")
    for index, file in enumerate(files):
        row, column = divmod(index, COLUMNS)
        with Image.open(file) as picture:
            tile = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (column * (SIDE + GAP), row * (SIDE + GAP)))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(OUTPUT, quality=85)


if __name__ == "__main__":
    main()
