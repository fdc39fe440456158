"""The command: open models, build the page, serve it, and leave nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backbones.errors import InputError
from backbones.extras import explained
from backbones.running.progress import start_logging
from demo.model.finders import Finder, open_finder
from demo.model.finding_models import Named, find_offer
from demo.safety.limits import Limits
from demo.safety.login import login_check, read_logins
from demo.safety.temporary_files import swept, temporary_folder
from demo.view.result_files import ResultFiles

if TYPE_CHECKING:
    from demo.app import PageOptions

logger = logging.getLogger("shortcut")

LOOPBACK = ("127.0.0.1", "localhost")
_QUIET_LIBRARIES = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
_IMPORTED_LATE = ("pandas", "pyarrow", "matplotlib.pyplot")
"""By Gradio, where they are installed."""
_VERBS = {"detection": "detect", "classification": "classify", "segmentation": "segment"}
_VISITORS = 64
"""Whose results are held at once; the oldest go first."""


def serve_page(options: PageOptions) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        InputError: there is no model, one cannot be opened, or an option does not fit.
    """
    start_logging(options.quiet)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with running_page(options) as url:
        logger.info("the page is at %s", url)
        stopped.wait()


@contextmanager
def running_page(options: PageOptions) -> Iterator[str]:
    """The page, served by threads of this process; its address.

    Raises:
        InputError: as ``serve_page``.
    """
    offer = find_offer(
        {"detection": options.detector, "classification": options.classifier, "segmentation": options.segmenter}
    )
    logins = read_logins(Path(options.auth_file)) if options.auth_file else None
    limits = limits_of(options)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        os.environ.update(_QUIET_LIBRARIES)  # read when Gradio is imported
        page = _build(offer, options, limits, ResultFiles(folder))
        stack.callback(page.close, verbose=False)
        stack.enter_context(swept(folder, limits.keep))
        port = _launch(page, options, limits, login_check(logins) if logins else None)
        _warn(options, logins is not None)
        yield f"http://{options.host}:{port}{options.root_path}"


def limits_of(options: PageOptions) -> Limits:
    """The limits that the command line states."""
    return Limits(
        int(options.max_upload * 1e6),
        int(options.max_pixels * 1e6),
        options.max_pictures,
        options.max_seconds,
        options.max_queue,
        options.keep,
    )


def _build(offer: Mapping[str, Sequence[Named]], options: PageOptions, limits: Limits, files: ResultFiles) -> Any:
    finders: dict[str, dict[str, Finder]] = {}
    for task, models in offer.items():
        opened = [open_finder(model.source, model.name, task, options.device, options.engine) for model in models]
        finders[task] = {finder.name: finder for finder in opened}
    for task, models in offer.items():
        for model in models:
            logger.info("%s: %s from %s", _VERBS[task], model.name, model.source)
    try:
        from demo.parts.building import build_page
        from demo.parts.service import Service
    except ModuleNotFoundError as error:
        raise explained(error) or error from None
    _warm_up([finder for named in finders.values() for finder in named.values()])
    return build_page(Service(finders["detection"], finders["classification"], limits, files, finders["segmentation"]))


def _warm_up(finders: Sequence[Finder]) -> None:
    """What engines and Gradio put off until the first request, which would keep the first visitor waiting.

    Raises:
        InputError: a model does not answer.
    """
    blank = np.zeros((128, 128, 3), np.uint8)
    for finder in finders:
        finder.find([blank])
    for module in _IMPORTED_LATE:
        with suppress(ImportError):
            import_module(module)


def _launch(page: Any, options: PageOptions, limits: Limits, login: Any) -> int:
    from demo.parts.building import STYLE, theme
    from demo.safety.requests import middlewares

    hosts = (*LOOPBACK, *options.allow_host)
    try:
        page.launch(
            server_name=options.host,
            server_port=options.port or free_port(options.host),
            root_path=options.root_path or None,
            auth=login,
            auth_message="This page is for those who were given a password." if login else None,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            share=False,
            inbrowser=False,
            max_file_size=limits.file_bytes,
            allowed_paths=[],
            state_session_capacity=_VISITORS,
            footer_links=["api"],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            theme=theme(),
            css=STYLE.read_text(encoding="utf-8"),
            app_kwargs={"openapi_url": None, "middleware": middlewares(limits, hosts)},
        )
    except OSError as error:
        raise InputError(f"--port {options.port}: {options.host} is taken or cannot be used ({error})") from error
    return int(page.server_port)


def free_port(host: str) -> int:
    """A port that nobody uses."""
    import socket

    with socket.socket() as trial:
        trial.bind((host, 0))
        return int(trial.getsockname()[1])


def _warn(options: PageOptions, login: bool) -> None:
    if options.host not in LOOPBACK and not login:
        logger.warning("everyone who reaches %s may use the page; --auth-file lets in only some", options.host)
    if options.host not in LOOPBACK and not options.allow_host:
        logger.warning("visitors need a name to call it by: --allow-host NAME; now only localhost works")
