"""A server against the bare runtime, on the same JPEG files, in the same run.

    python tests/benchmarks/server_speed.py --model resnet50.onnx --server triton

For each number of clients the two take turns, round by round, so that whatever else the machine does falls on both: the
runtime predicts file after file with all its threads; then so many clients, each with one picture on its way, ask the
server. Wanted: at least 0.95 of the runtime's throughput, and p99 at most twice p50.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import write_measurement
from deploy import load_runtime
from deploy.client import AsyncClient
from deploy.runtimes.exported_models import DetectorRuntime
from tests.deploy.running_servers import RunningServer


def pictures(folder: str | None, count: int) -> list[bytes]:
    """JPEG files: those of a folder, or smooth noise of 500 x 375."""
    if folder:
        return [path.read_bytes() for path in sorted(Path(folder).glob("*.jp*g"))[:count]]
    made = []
    for seed in range(count):
        small = np.random.default_rng(seed).integers(0, 256, (25, 32, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        made.append(stream.getvalue())
    return made


async def ask(
    url: str, name: str, detector: bool, files: list[bytes], clients: int, seconds: float
) -> tuple[list[float], float]:
    """The latency of every picture that ``clients`` clients get answered in so many seconds, and the time it took."""
    latencies: list[float] = []
    connections = [AsyncClient(url, name, concurrency=1) for _ in range(clients)]
    methods = [client.detect if detector else client.classify for client in connections]
    await asyncio.gather(*(method(files[:1]) for method in methods))  # connections open, before the clock starts
    start = time.perf_counter()

    async def work(number: int) -> None:
        while (begun := time.perf_counter()) < start + seconds:
            await methods[number % clients]([files[number % len(files)]])
            latencies.append(time.perf_counter() - begun)
            number += clients

    await asyncio.gather(*(work(number) for number in range(clients)))
    elapsed = time.perf_counter() - start
    await asyncio.gather(*(client.close() for client in connections))
    return latencies, elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images")
    parser.add_argument("--server", default="triton", choices=("triton", "builtin"))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--grpc", action="store_true")
    parser.add_argument("--output")
    options = parser.parse_args()
    files = pictures(options.images, 16)
    runtime = load_runtime(options.model, threads=options.threads)
    detector = isinstance(runtime, DetectorRuntime)
    runtime.predict(files[:2], batch_size=1)
    rows = []
    with RunningServer(
        options.server, ["--model", options.model, "--name", "m", "--threads", options.threads]
    ) as server:
        url = server.grpc if options.grpc else server.url
        for clients in options.clients:
            bare, served, latencies = [], [], []
            for _ in range(options.rounds):
                begun, done = time.perf_counter(), 0
                while time.perf_counter() - begun < options.seconds:
                    runtime.predict([files[done % len(files)]], batch_size=1)
                    done += 1
                bare.append(done / (time.perf_counter() - begun))
                found, elapsed = asyncio.run(ask(url, "m", detector, files, clients, options.seconds))
                served.append(len(found) / elapsed)
                latencies += found
            p50, p99 = (float(np.percentile(np.array(latencies) * 1e3, q)) for q in (50, 99))
            ratio = float(np.median(np.array(served) / np.array(bare)))
            row = {
                "clients": clients, "bare_per_s": round(float(np.median(bare)), 2),
                "served_per_s": round(float(np.median(served)), 2), "ratio": round(ratio, 3),
                "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "p99_over_p50": round(p99 / p50, 2),
            }  # fmt: skip
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.output:
        write_measurement(
            options.output,
            what="a server and the bare runtime on the same JPEG files, turn by turn: pictures per second, their "
            "ratio, and how long a client waits",
            settings={"server": options.server, "engine": runtime.session.engine, "threads": options.threads},
            targets={"ratio": 0.95, "p99_over_p50": 2.0},
            results={"model": Path(options.model).stem, "rows": rows},
        )


if __name__ == "__main__":
    main()
