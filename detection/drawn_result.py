"""What a model found in a picture, which can be drawn on it. The picture itself is not kept, but where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.images import Picture, Size, picture_list, read_image


class DrawnResult:
    """A result that remembers what it was predicted from (``source``), as it was given: a path, bytes, an array, ..."""

    source: Any

    def draw(self, picture: Any = None) -> Picture:
        """A copy of the picture with what was found on it, [H, W, 3] uint8.

        Args:
            picture: to draw on; by default the one that it was predicted from, which is read again.

        Raises:
            InputError: the picture is not known, cannot be read, or has another size.
        """
        raise NotImplementedError

    def save(self, path: str | Path, picture: Any = None) -> None:
        """``draw`` into a file, ``.png`` or ``.jpg``, which is whole or absent; one that exists is replaced.

        Raises:
            InputError: as ``draw``; or the file cannot be written, or is the picture that was looked at.
        """
        from detection.drawing import save_drawn, suffix_of

        path = Path(path)
        suffix_of(path)  # before the picture is read
        for known in (picture, self.source):
            if isinstance(known, str | Path) and path.exists() and Path(known).exists() and path.samefile(known):
                raise InputError(f"{path}: is the picture itself, which would be lost; give another name")
        save_drawn(path, self.draw(picture))

    def _picture(self, given: Any, size: Size | None) -> Picture:
        """The pixels to draw on, at the size that results are in."""
        if given is None and self.source is None:
            raise InputError("this result does not know its picture; hand it over: draw(picture)")
        pictures, alone = picture_list(self.source if given is None else given)
        if not alone:
            raise InputError("give one picture to draw on, not a sequence")
        picture = read_image(pictures[0])
        if size is not None and picture.shape[:2] != tuple(size):
            raise InputError(
                f"the picture is {picture.shape[0]} x {picture.shape[1]}, the result of one of {size[0]} x {size[1]}"
            )
        return picture

    def __getstate__(self) -> dict[str, Any]:
        """Pixels do not travel along to other processes; names of files do."""
        return {**self.__dict__, "source": self.source if isinstance(self.source, str | Path) else None}
