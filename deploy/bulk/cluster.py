"""Ray on this machine alone: no dashboard, no usage reports, loopback addresses, a secret of its own."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backbones.errors import InputError
from backbones.extras import require
from deploy.bulk.options import LOCAL

logger = logging.getLogger("shortcut")
ROOT = Path(__file__).resolve().parents[2]
ATTEMPTS = 3
OBJECT_STORE = 128 << 20
"""Bytes of shared memory; only names and rows pass through it."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default workers yield to everything else on the machine
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray takes 127.0.0.1 for an address that other machines reach, and listens on all, unless it knows of no clusters."""


def check_installed() -> None:
    """Make sure that Ray is there.

    Raises:
        InputError: it is not.
    """
    require("ray", "pyarrow", purpose="bulk prediction")


@contextmanager
def ray_running(cluster: str, processors: int) -> Iterator[None]:
    """Ray, until the block is left.

    Args:
        cluster: ``local``, or the address of one that runs.
        processors: that a local one may use.

    Raises:
        InputError: the cluster does not answer.
    """
    os.environ.update(SETTINGS | (ALONE if cluster == LOCAL else {}))
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # workers import this project
    if cluster == LOCAL:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if cluster == LOCAL:
        settings |= {"num_cpus": processors, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
        settings |= {"_node_ip_address": "127.0.0.1"}
    _start(cluster, settings)
    try:
        _calm()
        yield
    finally:
        ray.shutdown()


def _start(cluster: str, settings: dict[str, Any]) -> None:
    """Ray gives its own processes half a minute, which is little on a busy machine; so it is asked again."""
    import ray

    for attempt in range(ATTEMPTS):
        try:
            ray.init(address=cluster, **settings)
            return
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            if attempt == ATTEMPTS - 1:
                raise InputError(f"--cluster {cluster}: Ray does not start or answer ({error})") from error
            logger.info("Ray did not start in time; trying again")


def _calm() -> None:
    """Ray Data's own words are about itself; ours are about pictures."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
