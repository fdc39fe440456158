"""The page under load: many clients at once, its memory, and what it leaves on the disk.

    python tests/benchmarks/page_load.py --model runs/quickstart/detector/model.onnx

Clients take the public interface, each with its own session. A first load warms the page up; then memory is
looked at after each of several more, of which the last is reported.
Wanted: no failure but "queue is full", memory within 5 %, and no temporary file left after the stated time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from backbones.running.measurement import write_measurement
from detection.data.digits import compose_scene
from tests.demo.running_page import RunningPage

FLAT = 0.05


def resident(process: int) -> float:
    """MiB that a process holds."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no such process")


def load(page: RunningPage, pictures: list[Path], requests: int, clients: int) -> tuple[Counter[str], list[float]]:
    """What became of the requests, and their latencies."""
    outcomes: Counter[str] = Counter()
    latencies: list[float] = []

    def work(worker: int) -> None:
        client = Client(page.url, verbose=False)
        for number in range(worker, requests, clients):
            begun = time.perf_counter()
            try:
                answer = client.predict(handle_file(pictures[number % len(pictures)]), api_name="/detect")
                outcomes["answered" if answer["detections"] is not None else "empty"] += 1
                latencies.append(time.perf_counter() - begun)
            except Exception as error:  # every kind of failure is counted by its words
                full = "queue is full" in str(error).lower()
                outcomes["queue full" if full else f"{type(error).__name__}: {str(error)[:80]}"] += 1

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    return outcomes, latencies


def settled(page: RunningPage) -> float:
    """Memory, the median of some looks after a pause."""
    time.sleep(3)
    looks = []
    for _ in range(5):
        looks.append(resident(page.process.pid))
        time.sleep(0.5)
    return float(np.median(looks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--keep", type=int, default=20)
    parser.add_argument("--more", type=int, default=3, help="loads between the first look at memory and the last load")
    parser.add_argument("--output", default="results/page_load.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory() as folder:
        pictures = [Path(work) / f"scene-{number}-sent.png" for number in range(32)]
        for number, path in enumerate(pictures):
            Image.fromarray(compose_scene("test", number).image).save(path)
        with RunningPage(["--detector", options.model, "--keep", options.keep], Path(folder)) as page:
            load(page, pictures, options.requests, options.clients)
            memory = [settled(page)]
            for _ in range(options.more):
                load(page, pictures, options.requests, options.clients)
                memory.append(settled(page))
            begun = time.perf_counter()
            outcomes, latencies = load(page, pictures, options.requests, options.clients)
            seconds = time.perf_counter() - begun
            during = len(page.temporary_files())
            memory.append(settled(page))
            time.sleep(1.5 * options.keep)
            left = len(page.temporary_files())
    failures = {words: count for words, count in outcomes.items() if words not in ("answered", "queue full")}
    growth = memory[-1] / memory[0]
    results: dict[str, Any] = {
        "outcomes": dict(outcomes), "seconds": round(seconds, 1),
        "latency_s": {f"p{q}": round(float(np.percentile(latencies, q)), 2) for q in (50, 99)},
        "memory_mib": {"after_each_load": [round(look, 1) for look in memory], "last_over_first": round(growth, 3)},
        "temporary_files": {"at_the_end": during, f"{1.5 * options.keep:g}_s_later": left},
    }  # fmt: skip
    reached = not failures and abs(growth - 1) <= FLAT and not left
    write_measurement(
        options.output, f"{options.requests} detections by {options.clients} clients at once", results,
        target=f"no failure but a full queue, memory within 5 %, no file left: {'reached' if reached else 'missed'}",
        settings={"keep": options.keep, "queue": 16}, seed="digits scenes 0 to 31 of test",
    )  # fmt: skip
    print(json.dumps(results))


if __name__ == "__main__":
    main()
