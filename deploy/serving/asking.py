"""The client's command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.errors import InputError
from deploy.serving.connection import AsyncClient, ServerError
from deploy.serving.service import as_json, least_scores
from detection.prediction.sources import find_sources

if TYPE_CHECKING:
    from deploy.client_options import ClientOptions

_TITLES = {"detection": "detections", "classification": "classes", "segmentation": "segments"}


def ask(options: ClientOptions) -> None:
    """Print, for each picture, one line of JSON with what the server finds in it.

    Raises:
        InputError: the server does not answer; or, after the others are answered, pictures were refused.
    """
    if not options.images:
        raise InputError("give pictures: python deploy/client.py picture.jpg")
    sources, faults = find_sources(options.images, None, Path(os.devnull))  # nothing is written
    faults += [InputError(f"{source.path}: a video; give pictures") for source in sources if source.is_video]
    pictures = [source.path for source in sources if not source.is_video]
    for fault in faults:
        _name(fault)
    try:
        refused = asyncio.run(_ask(options, pictures)) + len(faults)
    except ServerError as error:
        raise InputError(str(error)) from error
    if refused:
        raise InputError(f"{refused} of the pictures could not be read or were refused; the others are answered")


async def _ask(options: ClientOptions, pictures: Sequence[Path]) -> int:
    """Answer in the order of the pictures; how many were refused."""
    async with AsyncClient(options.url, options.model, options.concurrency, options.timeout) as client:
        about = await client.about()
        least_scores(about, options.threshold)
        everything = 0.0 if about.task == "detection" else None

        async def look(picture: Path) -> Any:
            try:
                return await client.predict(picture, everything)
            except InputError as error:
                return error

        refused = 0
        for picture, looked in [(picture, asyncio.ensure_future(look(picture))) for picture in pictures]:
            found = await looked
            if isinstance(found, InputError):
                _name(found)
                refused += 1
                continue
            listed = as_json(found, about, options.threshold, options.top)
            print(json.dumps({"image": str(picture), _TITLES[about.task]: listed}), flush=True)
        return refused


def _name(fault: InputError) -> None:
    print(f"error: {' '.join(str(fault).split())}", file=sys.stderr)
