"""The client's command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from backbones.errors import InputError
from deploy.serving.connection import Client, ServerError

if TYPE_CHECKING:
    from deploy.client_options import ClientOptions


def ask(options: ClientOptions) -> None:
    """Print, for each picture, one line of JSON with what the server finds in it.

    Raises:
        InputError: a picture is refused, or the server does not answer.
    """
    if not options.images:
        raise InputError("give pictures: python deploy/client.py picture.jpg")
    try:
        with Client(options.url, options.model, options.concurrency, options.timeout) as client:
            found = _detected(client, options) if client.finds_objects() else _classified(client, options)
    except ServerError as error:
        raise InputError(str(error)) from error
    for image, things in zip(options.images, found, strict=True):
        print(json.dumps({"image": image, **things}))


def _detected(client: Client, options: ClientOptions) -> list[dict[str, Any]]:
    classes = client.classes()
    return [
        {"detections": detected.above(options.threshold).to_json(classes)} for detected in client.detect(options.images)
    ]


def _classified(client: Client, options: ClientOptions) -> list[dict[str, Any]]:
    classes = client.classes()
    rows = []
    for probabilities in client.classify(options.images):
        best = np.argsort(-probabilities, kind="stable")[: options.top]
        rows.append({"classes": [{"class": classes[k], "score": round(float(probabilities[k]), 4)} for k in best]})
    return rows
