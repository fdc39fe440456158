"""The client: pictures out, what is found in them back. HTTP or gRPC, to Triton or to the built-in server."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tritonclient.utils import InferenceServerException

from backbones.classification import Classification
from backbones.errors import InputError
from backbones.images import name_of, picture_list, read_image
from backbones.metadata import refuse_threshold
from deploy.serving.service import About, found_in, least_scores
from detection.detections import Detections

_T = TypeVar("_T")

DEFAULT_URL = "http://127.0.0.1:8000"


class ServerError(RuntimeError):
    """The server cannot be reached, is too busy, or failed."""


class AsyncClient:
    """A client for ``asyncio``.

    Args:
        url: ``http://HOST:PORT`` or ``grpc://HOST:PORT``.
        model: the served model's name; over HTTP the only one needs no name.
        concurrency: pictures on their way at once. The server puts those that meet into one batch.
        timeout: seconds for one picture.

    Raises:
        InputError: the address has another form, or a number is out of its range.
    """

    def __init__(
        self, url: str = DEFAULT_URL, model: str | None = None, concurrency: int = 8, timeout: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "grpc") or not parts.netloc or parts.path not in ("", "/"):
            raise InputError(f"{url}: expected http://HOST:PORT or grpc://HOST:PORT")
        if concurrency < 1 or not timeout > 0:
            raise InputError(f"concurrency {concurrency} must be at least 1, timeout {timeout:g} above 0")
        self.url, self.model, self.timeout = url.rstrip("/"), model, timeout
        self._scheme, self._address = parts.scheme, parts.netloc
        self._slots = asyncio.Semaphore(concurrency)
        self._connection: Any = None
        self._known: dict[str, tuple[About, list[str]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def ready(self) -> bool:
        """Whether the server is up and all its models are loaded."""
        try:
            return bool(await self._open().is_server_ready())
        except (InferenceServerException, OSError):
            return False

    async def about(self) -> About:
        """What the model is for, its classes, and the thresholds that it stores."""
        return (await self._described())[0]

    async def classes(self) -> tuple[str, ...]:
        """The names of the model's classes, by label."""
        return (await self.about()).classes

    async def finds_objects(self) -> bool:
        """Whether the model is a detector."""
        return (await self.about()).task == "detection"

    async def predict(self, images: Any, threshold: float | None = None) -> Any:
        """What the model finds in pictures, as the ``predict`` of a runtime gives it.

        Args:
            images: a path, the bytes of a file, a Pillow image, a uint8 array [H, W, 3], a uint8 tensor [3, H, W]; or a
                sequence of these.
            threshold: of detectors the least score, 0 for everything; by default those that the model stores, else 0.5.

        Returns:
            Of one picture one result, of a sequence a list: ``Detections`` in the picture's own pixels, with masks as
            ``RunLengthMasks``; a ``Classification``; or a ``SegmentationMap``.

        Raises:
            InputError: the server refuses a picture, or no score can be compared with the threshold.
            ServerError: no answer.
        """
        pictures, alone = picture_list(images)
        about = await self.about()
        refuse_threshold(about.task, threshold)
        least = least_scores(about, threshold)
        found = await asyncio.gather(*map(self._find, pictures, itertools.count()))
        results = [_named(one, about, picture) for one, picture in zip(found, pictures, strict=True)]
        results = [one.above(least) if isinstance(one, Detections) else one for one in results]
        return results[0] if alone else results

    async def detect(self, images: Any) -> list[Detections]:
        """All detections of each picture, whatever their scores: ``predict(images, 0)``, always as a list.

        Raises:
            InputError: as ``predict``; or the model is no detector.
            ServerError: no answer.
        """
        if not await self.finds_objects():
            raise InputError(f"{await self._name()}: is no detector; predict() asks any model")
        found: list[Detections] = await self.predict(picture_list(images)[0], 0)
        return found

    async def classify(self, images: Any) -> NDArray[np.float32]:
        """Probabilities [N, K] of pictures.

        Raises:
            InputError: as ``predict``; or the model is no classifier.
            ServerError: no answer.
        """
        about = await self.about()
        if about.task != "classification":
            raise InputError(f"{await self._name()}: is no classifier; predict() asks any model")
        rows = [one.probabilities for one in await self.predict(picture_list(images)[0])]
        return np.array(rows, np.float32).reshape(len(rows), len(about.classes))

    async def _described(self) -> tuple[About, list[str]]:
        """The model, and the outputs from which its answers are read."""
        name = await self._name()
        if name not in self._known:
            settings = {"as_json": True} if self._scheme == "grpc" else {}
            answer = await self._asked(self._open().get_model_config(name, **settings))
            config = answer.get("config", answer)
            texts = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
            if not {"task", "classes"} <= set(texts):
                raise InputError(f"{name}: takes no pictures, or deploy/repository.py did not write it")
            about, outputs = About.from_texts(texts), [output["name"] for output in config["output"]]
            self._known[name] = about, ["probabilities"] if about.task == "classification" else outputs
        return self._known[name]

    async def _find(self, image: Any, place: int) -> Any:
        """All that the model finds in one picture of a sequence."""
        name, (_, wanted) = await self._name(), await self._described()
        async with self._slots:
            file = image if isinstance(image, bytes) else await asyncio.to_thread(picture_file, image)
            if not file:
                raise InputError(f"{name_of(image, place)}: is empty")
            data = np.frombuffer(file, np.uint8)[None]
            tensor = self._kind.InferInput("image", list(data.shape), "UINT8")
            tensor.set_data_from_numpy(data)
            outputs = [self._kind.InferRequestedOutput(output) for output in wanted]
            timing = {"client_timeout": self.timeout} if self._scheme == "grpc" else {}
            asked = self._open().infer(name, [tensor], outputs=outputs, **timing)
            answer = await self._asked(asked, name_of(image, place))
        return found_in({output: answer.as_numpy(output) for output in wanted})

    async def _name(self) -> str:
        if self.model is None:
            self.model = await self._only_model()
        return self.model

    async def _only_model(self) -> str:
        if self._scheme == "grpc":
            raise InputError("name the model: gRPC has no list of them")
        import aiohttp

        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/models") as answer:
                names = [entry["name"] for entry in await answer.json()]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from error
        if len(names) != 1:
            raise InputError(f"name the model: {', '.join(names)}")
        return str(names[0])

    async def _asked(self, question: Coroutine[Any, Any, _T], whose: str | None = None) -> _T:
        try:
            async with asyncio.timeout(self.timeout):
                return await question
        except InferenceServerException as error:
            status = str(error.status())
            message = " ".join(str(error.message()).split())
            if status in ("400", "403", "404", "413", "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"):
                raise InputError(f"{whose or self.url}: {message.removeprefix('image: ')}") from error
            raise ServerError(f"{self.url}: {message}") from error
        except TimeoutError as error:
            raise ServerError(f"{self.url}: no answer within {self.timeout:.0f} s") from error
        except OSError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> ServerError:
        return ServerError(f"{self.url}: no server answers ({error}); start deploy/serve.py, or give another --url")

    @property
    def _kind(self) -> Any:
        if self._scheme == "grpc":
            import tritonclient.grpc as client
        else:
            import tritonclient.http as client
        return client

    def _open(self) -> Any:
        if self._connection is None:
            if self._scheme == "grpc":
                from tritonclient.grpc.aio import InferenceServerClient

                self._connection = InferenceServerClient(self._address)
            else:
                from tritonclient.http.aio import InferenceServerClient

                self._connection = InferenceServerClient(self._address, conn_timeout=self.timeout)
        return self._connection


class Client:
    """The same for ordinary code, from any thread; arguments as ``AsyncClient``."""

    def __init__(
        self, url: str = DEFAULT_URL, model: str | None = None, concurrency: int = 8, timeout: float = 60.0
    ) -> None:
        self._client = AsyncClient(url, model, concurrency, timeout)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if not self._loop.is_closed():
            self._wait(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def ready(self) -> bool:
        """Whether the server is up and all its models are loaded."""
        return self._wait(self._client.ready())

    def about(self) -> About:
        """What the model is for, its classes, and the thresholds that it stores."""
        return self._wait(self._client.about())

    def classes(self) -> tuple[str, ...]:
        """The names of the model's classes, by label."""
        return self._wait(self._client.classes())

    def finds_objects(self) -> bool:
        """Whether the model is a detector."""
        return self._wait(self._client.finds_objects())

    def predict(self, images: Any, threshold: float | None = None) -> Any:
        """As ``AsyncClient.predict``."""
        return self._wait(self._client.predict(images, threshold))

    def detect(self, images: Any) -> list[Detections]:
        """As ``AsyncClient.detect``."""
        return self._wait(self._client.detect(images))

    def classify(self, images: Any) -> NDArray[np.float32]:
        """As ``AsyncClient.classify``."""
        return self._wait(self._client.classify(images))

    def _wait(self, question: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result()


def _named(found: Any, about: About, picture: Any) -> Any:
    """What was found with what the server says of the model, as a runtime's result has it."""
    if isinstance(found, Detections):
        return replace(found, classes=about.classes, category_ids=about.category_ids, source=picture)
    more = {} if isinstance(found, Classification) else {"source": picture}
    return replace(found, classes=about.classes, **more)


def picture_file(image: Any) -> bytes:
    """A picture as the bytes of a file: as they are, or as PNG where it is an array or a Pillow image.

    Raises:
        InputError: no such file, or not a picture's array.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise InputError(f"{image}: {error.strerror}") from error
    stream = io.BytesIO()
    Image.fromarray(read_image(image)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
