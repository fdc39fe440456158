"""Models behind the address of a server of ``deploy/serve.py``, or Triton. Only operators name addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from backbones.errors import InputError
from backbones.extras import explained

if TYPE_CHECKING:
    from deploy.serving.connection import Client

_T = TypeVar("_T")
FLAGS = {
    "classification": "give it by --classifier", "detection": "give it by --detector",
    "segmentation": "give it by --segmenter",
}  # fmt: skip
"""By which option of the page a model for a task is given."""
_PATIENCE = 20.0  # seconds for one picture


@dataclass(frozen=True)
class Address:
    """``http://HOST:PORT/NAME`` or ``grpc://HOST:PORT/NAME``.

    Attributes:
        url: without the name.
        model: the served model's name; None for the only one.
    """

    url: str
    model: str | None

    def connect(self) -> Client:
        """A client that is ready to ask.

        Raises:
            InputError: the client library is missing, or nobody answers.
        """
        try:
            from deploy.serving.connection import Client
        except ModuleNotFoundError as error:
            raise explained(error) or error from None
        client = Client(self.url, self.model, timeout=_PATIENCE)
        if not client.ready():
            client.close()
            raise InputError(f"{self.url}: no server answers, or its models are not loaded; start deploy/serve.py")
        return client


def read_address(source: str) -> Address | None:
    """The address that a source is, or None for a file or a name.

    Raises:
        InputError: an address of another form.
    """
    parts = urlsplit(source)
    if parts.scheme not in ("http", "grpc"):
        return None
    model = parts.path.strip("/")
    if not parts.netloc or "/" in model or parts.query or parts.fragment:
        raise InputError(f"{source}: expected {parts.scheme}://HOST:PORT/NAME")
    return Address(f"{parts.scheme}://{parts.netloc}", model or None)


def asked(question: Callable[[], _T]) -> _T:
    """An answer of a server.

    Raises:
        InputError: there is none, or a refusal.
    """
    from deploy.serving.connection import ServerError

    try:
        return question()
    except ServerError as error:
        raise InputError(f"the model's server does not answer: {error}") from error
