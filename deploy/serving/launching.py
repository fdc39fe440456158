"""The serve command: repository, engine, front; and back down in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from backbones.errors import InputError
from backbones.running.progress import start_logging
from deploy.serving.builtin_server import BuiltinEngine
from deploy.serving.front import Engine, Front, Limits
from deploy.serving.installation import container_command, find_triton
from deploy.serving.repository_files import check_repository, read_sources, write_repository
from deploy.serving.triton_server import LOOPBACK, TritonEngine, TritonProcess, free_port

if TYPE_CHECKING:
    from deploy.serve import ServeOptions

logger = logging.getLogger("shortcut")

_SHORTEST_KEY = 16


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or Ctrl-C; then let requests finish.

    Raises:
        InputError: a model cannot be served, or an option does not fit.
    """
    start_logging(options.quiet)
    key = read_key(options)
    with ExitStack() as stack:
        repository = _repository(options, stack)
        limits = Limits(int(options.max_body * 1e6), options.max_queue)
        engine = choose_engine(options, repository)
        asyncio.run(_run(engine, repository, limits, key, options))


def read_key(options: ServeOptions) -> str | None:
    """The key that opens loading and unloading, or None where they are refused.

    Raises:
        InputError: the key is missing, too short, or given without ``--model-control explicit``.
    """
    if options.model_control == "none":
        if options.admin_key_file:
            raise InputError("--admin-key-file is for --model-control explicit")
        return None
    if not options.admin_key_file:
        raise InputError("--model-control explicit needs --admin-key-file: whoever may load models runs this machine")
    key = Path(options.admin_key_file).read_text(encoding="utf-8").strip()
    if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable():
        raise InputError(f"{options.admin_key_file}: at least {_SHORTEST_KEY} ASCII characters on one line")
    return key


def choose_engine(options: ServeOptions, repository: Path) -> Engine:
    """Triton where it is wanted and found, else the built-in server.

    Raises:
        InputError: Triton is asked for and not found.
    """
    if options.server != "builtin":
        installation = find_triton(options.triton)
        if installation is not None:
            grpc_port = options.grpc_port or free_port()
            explicit = options.model_control == "explicit"
            return TritonEngine(TritonProcess(installation, repository, grpc_port, explicit, options.exit_timeout))
        hint = (
            "no Triton here (pip install --no-deps nvidia-pytriton); NVIDIA's container serves what "
            f"deploy/repository.py writes: {container_command(options.repository or '$PWD/repository')}"
        )
        if options.server == "triton":
            raise InputError(hint)
        logger.info("%s", hint)
    return BuiltinEngine(repository)


def _repository(options: ServeOptions, stack: ExitStack) -> Path:
    if options.repository:
        if options.model:
            raise InputError("give --model or --repository, not both")
        check_repository(Path(options.repository))
        return Path(options.repository)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="repository-")))
    sources = read_sources(options.model, options.name, options.engine)
    write_repository(sources, folder / "models", options)
    return folder / "models"


async def _run(engine: Engine, repository: Path, limits: Limits, key: str | None, options: ServeOptions) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    front = Front(engine, repository, limits, key)
    runner = web.AppRunner(front.app(), access_log=None, handle_signals=False)
    try:
        opening = asyncio.create_task(engine.open())
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((opening, waiting), return_when=asyncio.FIRST_COMPLETED)
        if stopped.is_set():
            await asyncio.gather(opening, return_exceptions=True)
            return
        await opening
        await runner.setup()
        site = web.TCPSite(runner, options.host, options.port)
        await site.start()
        _announce(engine, runner, repository, options.host)
        await _until(waiting, engine)
        logger.info("stopping: %d requests in flight", front.in_flight)
        await front.drain(options.exit_timeout)
    finally:
        await runner.cleanup()
        await engine.close()


async def _until(stopped: asyncio.Task[bool], engine: Engine) -> None:
    """Wait for a signal, or for Triton's end, which is an error."""
    tasks: list[asyncio.Task[bool] | asyncio.Task[None]] = [stopped]
    if isinstance(engine, TritonEngine):
        tasks.append(asyncio.create_task(engine.watch()))
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks[1:]:
        if task.done():
            task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _announce(engine: Engine, runner: web.AppRunner, repository: Path, host: str) -> None:
    port = runner.addresses[0][1]
    named = [name for name, config in check_repository(repository).items() if "task" in config.parameters]
    logger.info("%s serves %s at http://%s:%d", engine.name, ", ".join(named), host, port)
    if isinstance(engine, TritonEngine):
        logger.info("gRPC at %s:%d", LOOPBACK, engine.process.grpc_port)
    logger.info("try: curl --data-binary @picture.jpg 'http://%s:%d/predict/%s'", host, port, named[0])
