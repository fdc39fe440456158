#!/usr/bin/env python
"""Write tables of README.md and docs/deploy.md from results/*.json: ``python results/tables.py [--check]``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results.machines import machine

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
DEPLOY = HERE.parent / "docs" / "deploy.md"
DIGITS_TARGET = 98.5


def load(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def digits_table() -> list[str]:
    """The quickstart, beside torchvision's stock model on the same scenes and steps."""
    ours, theirs = load("quickstart"), load("torchvision_digits")
    result = ours["results"]
    seconds = result["training_seconds"]
    rows = [
        "| 200 unseen digit scenes | AP | AP50 | AP75 | training |",
        "|---|---|---|---|---|",
        row("Faster R-CNN, ResNet-20 FPN, pretrained on digits", result["detector"], seconds["detector"]),
        row("the same as ONNX file, in OpenVINO", result["onnx"], None),
        row("torchvision's Faster R-CNN at the same widths, ResNet-18 FPN, from scratch", theirs["results"], None),
    ]
    accuracy = result["classifier_accuracy"]
    return [*rows, "", f"The ResNet-20 classifies {accuracy:.1f} % of the unseen digits. {machine(ours)}"]


def row(name: str, marks: dict[str, float], seconds: float | None) -> str:
    numbers = " | ".join(f"{marks[key]:.3f}" for key in ("AP", "AP50", "AP75"))
    return f"| {name} | {numbers} | {f'{seconds:.0f} s' if seconds else ''} |"


def photographs_table() -> list[str]:
    """Real photographs."""
    trained, exported = load("bccd_cpu"), load("bccd_onnx_agreement")
    marks, agreement = trained["results"], exported["results"]
    return [
        "| real photographs | |",
        "|---|---|",
        f"| BCCD blood cells, test split, ResNet-18 FPN trained for {marks['minutes']:.0f} minutes on a CPU "
        f"| AP {marks['AP']:.3f}, AP50 {marks['AP50']:.3f} |",
        "| its ONNX file against the model, batches of 1, 2 and 5, sizes never exported "
        f"| {agreement['met']} of {agreement['counted']} detections agree |",
        "",
        machine(trained, exported),
    ]


def detectors_table() -> list[str]:
    """Small detectors of each kind."""
    parts = load("detectors"), load("digits_detectors")
    found = parts[0]["results"] | parts[1]["results"]
    rows = {}
    for entry in found.values():  # of two runs of the same settings the later one counts
        settings = entry["settings"]
        data = settings["dataset"].removeprefix("voc:data/")
        name = f"{data}: {settings['backbone']} {str(settings['head']).upper()}"
        name += ", masks" * bool(settings.get("masks")) + ", global context" * bool(settings.get("context"))
        masks = f"{entry['mask_AP']:.3f}" if "mask_AP" in entry else ""
        rows[name] = f"| {name} | {entry['AP']:.3f} | {entry['AP50']:.3f} | {masks} | {entry['minutes']:.0f} |"
    head = ["| small detectors, test pictures | AP | AP50 | mask AP | minutes |", "|---|---|---|---|---|"]
    note = "Minutes on two shared CPU cores, evaluations included; of the digits' C4 and masks on cores with bf16."
    return [*head, *rows.values(), "", f"{note} {machine(*parts)}"]


def improvements_table() -> list[str]:
    """What the appendix's improvements change on small data, beside what the paper saw on COCO."""
    parts = [load(name) for name in ("improvements_digits", "improvements_bccd")]
    context = load("improvements_bccd_context")
    parts[1]["results"] |= context["results"]
    paper = parts[0]["paper"]
    rows = [
        "| improvement, AP points gained (time, times the baseline) | digits | BCCD | the paper on COCO |",
        "|---|---|---|---|",
    ]
    names = [name for name in dict.fromkeys(n for part in parts for n in part["results"]) if name != "baseline"]
    for name in names:
        cells = [_gain(part["results"].get(name)) for part in parts]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} | {f'{paper[name]:+.1f}' if name in paper else ''} |")
    bases = " and ".join(f"{part['results']['baseline']['AP']:.3f}" for part in parts)
    short = "Global context on BCCD is against its like without, both trained on 600 images at 256 pixels only."
    return [*rows, "", f"Baselines: AP {bases}. {short} Small-scale; one run of each. {machine(*parts, context)}"]


def _gain(marks: dict[str, float] | None) -> str:
    return f"{marks['gain']:+.1f} ({marks['time']:.1f})" if marks else ""


def pretraining_table() -> list[str]:
    """Small checks of pretraining and of the test protocols."""
    files = [load(name) for name in ("cifar_against_plain", "decode_speed", "quickstart", "imagenet60")]
    loops, decoding, quick, published = (file["results"] for file in files)
    ours, plain = loops["ours"], loops["plain loop"]
    digits, seconds = quick["classifier_accuracy"], quick["training_seconds"]["classifier"]
    verdict = "reached" if digits >= DIGITS_TARGET else "missed"
    rows = [
        "| pretraining | |",
        "|---|---|",
        f"| ResNet-20 on the built-in digits, trained for {seconds:.0f} s | {digits:.2f} % of the unseen ones right; "
        f"target {DIGITS_TARGET} {verdict} |",
        "| ResNet-20, 2,000 iterations on CIFAR-10 after JPEG: ours, and a plain loop on the same batches "
        f"| training loss {ours['loss']:.3f} and {plain['loss']:.3f}, test error {ours['test_error']:.1f} % and "
        f"{plain['test_error']:.1f} % |",
        "| decoding, scale jitter and crop on one core: ours, and Pillow with torchvision's transforms "
        f"| {decoding['ours']['median']:.0f} and {decoding['pillow and torchvision']['median']:.0f} images/s |",
    ]
    for name, rates in published.items():
        shown = ", ".join(f"{kind} {100 - r['top1_error']:.1f} %" for kind, r in rates["protocols"].items())
        rows.append(f"| published weights in `{name}`, top-1 on {rates['images']} ImageNet pictures | {shown} |")
    return [*rows, "", machine(*files)]


def speed_table() -> list[str]:
    """Time of ours over torchvision's."""
    measured = load("faster_rcnn_speed_cpu")
    rows = [
        "| Faster R-CNN R50-FPN: our time / torchvision's | batch | ours | torchvision's | training step | inference |",
        "|---|---|---|---|---|---|",
    ]
    for found in measured["results"]:
        height, width = found["size"]
        sides = f"{found['batch']} | {found['precision']} | {found['their_precision']}"
        cells = " | ".join(_share(found.get(task)) for task in ("training step", "inference"))
        rows.append(f"| {height} x {width} pixels | {sides} | {cells} |")
    turns = measured["settings"]["pairs"]
    return [*rows, "", f"Median of {turns} turns of each, interleaved, and their range. {machine(measured)}"]


def _share(timing: dict[str, Any] | None) -> str:
    """Our share of torchvision's time with its range, and whether that was wanted."""
    if timing is None:
        return ""
    ratio, target = timing["ratio"], timing.get("target")
    verdict = "" if target is None else f", target {target} {'reached' if timing['met'] else 'missed'}"
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}){verdict}"


def gpu_table() -> list[str]:
    """What tours of a GPU measured, and in one line what they have yet to measure."""
    rows = []
    for path in (*sorted(HERE.glob("gpu_*.json")), *sorted((HERE / "classification").glob("*.json"))):
        measured = json.loads(path.read_text(encoding="utf-8"))
        if measured.get("complete"):
            reached = {True: ", reached", False: ", missed", None: ""}[measured["reached"]]
            cells = (measured["what"], measured["summary"], f"{measured['target']}{reached}")
            torch = f"torch {measured['environment']['versions']['torch']}"
            rows.append(f"| {' | '.join(cells)} | {measured['environment']['gpu']}, {torch}, {measured['date']} |")
    head = ["| on a GPU | found | target | card |", "|---|---|---|---|", *rows, ""] if rows else []
    listed, tried = load("not_run"), load("gpu_rehearsal")
    names = ", ".join(f"`{item['name']}`" for item in listed["items"])
    if not names:
        return head[:-1]
    passed = sum(found["status"] == "done" for found in tried["results"].values())
    line = f"Not run yet on a GPU (`results/not_run.json` says what each is): {names}. `{listed['command']}` runs them"
    line += ", in several parts if need be; its docstring says how, and what data it takes"
    rehearsed = f"rehearsed on a CPU on {tried['date']}, {passed} of {len(tried['results'])} items pass"
    return [*head, f"{line}; {rehearsed} (`results/gpu_rehearsal.json`)."]


def exports_table() -> list[str]:
    """What each precision costs in each engine."""
    measured = load("exported_accuracy")
    rows = ["| model | precision | the trained model | OpenVINO | ONNX Runtime | note |", "|---|---|---|---|---|---|"]
    for model, precisions in measured["results"].items():
        for precision, found in precisions.items():
            marks = found.get("marks", {})
            seen = [mark for mark in marks.values() if "metric" in mark]
            trained = f"{seen[0]['metric']} {seen[0]['trained']:.2f}" if seen else ""
            engines = " | ".join(_mark(marks.get(engine, {})) for engine in ("openvino", "onnxruntime"))
            rows.append(f"| {model} | {precision} | {trained} | {engines} | {_note(found)} |")
    return [*rows, "", f"In per cent. {machine(measured)}"]


def deployed_speed_table() -> list[str]:
    """Classifiers against torch's eager fp32: exported by us, and as a user would get them without us."""
    measured = load("deploy_speed_cpu")
    rows = [
        "| ResNet-50, 224 pixels | batch | p50, ms | times eager fp32 | times the fastest peer of its precision "
        "| top-1 of 60 |",
        "|---|---|---|---|---|---|",
    ]
    classifiers = measured["results"]["classification"]
    for found in classifiers:
        peers = list(found["times_faster"])[1:]
        name = found["name"] if found["name"] in peers else f"ours, {_engine(found)}"
        rows.append(
            f"| {name} | {found['batch']} | {found['p50']:.1f} | {_times(found)} "
            f"| {_times_fastest_peer(found, classifiers)} | {found['accuracy']['top1']:.1%} |"
        )
    rows += [f"| {name} |  | does not run here: {why} |  |  |  |" for name, why in measured.get("left_out", {}).items()]
    return [*rows, "", f"Two threads, interleaved; the same weights on every side. {machine(measured)}"]


def _times_fastest_peer(found: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """How many times faster one of ours is than the fastest peer that computes in its precision, turn by turn."""
    eager, *peers = found["times_faster"]
    alike = {row["name"] for row in rows if row["precision"] == found["precision"]}
    ratios = [found["times_faster"][peer] for peer in peers if peer in alike]
    if found["name"] in (eager, *peers) or not ratios:
        return ""
    ratio = min(ratios, key=lambda ratio: ratio["median"])
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def deployed_detector_speed_table() -> list[str]:
    """Exported detectors against torchvision's eager one."""
    measured = load("deploy_speed_detector_cpu")
    rows = [
        "| Faster R-CNN R50-FPN, 640 pixels | p50, ms | times torchvision, 300 proposals "
        "| times stock torchvision, 1,000 | detections found again |",
        "|---|---|---|---|---|",
    ]
    for found in measured["results"]["detection"]:
        ours = found["accuracy"]
        style = "--int8-style cpu" if found["style"] == "cpu" else None
        name = " ".join(filter(None, [_engine(found) if ours else found["name"], found["flavour"], style]))
        again = f"{ours['found_again']:.1%}" if ours else ""
        _, stock = found["times_faster"].values()
        rows.append(f"| {name} | {found['p50']:.0f} | {_times(found)} | {stock['median']:.2f} | {again} |")
    note = "Batch 1, two threads, interleaved; the same weights on every side, with random heads"
    return [*rows, "", f"{note}. {machine(measured)}"]


def server_speed_table() -> list[str]:
    """Triton against the runtime that it runs."""
    rows = [
        "| model | clients | runtime, pictures/s | Triton | ratio | p50, ms | p99 / p50 |",
        "|---|---|---|---|---|---|---|",
    ]
    for measured in (load("server_speed_cpu"), load("server_speed_detector_cpu")):
        wanted = measured["targets"]["ratio"]
        for row in measured["results"]["rows"]:
            missed = "" if row["ratio"] >= wanted else f" (missed: {wanted} wanted)"
            rows.append(
                f"| {measured['results']['model']} | {row['clients']} | {row['bare_per_s']:.1f} "
                f"| {row['served_per_s']:.1f} | {row['ratio']:.2f}{missed} | {row['p50_ms']:.0f} "
                f"| {row['p99_over_p50']:.1f} |"
            )
    return [*rows, "", f"{measured['settings']['engine']}, interleaved. {machine(measured)}"]


def _engine(found: dict[str, Any]) -> str:
    """Precision and engine of a row of the speed benchmark."""
    return f"{found['precision']}, {found['name'].rpartition(' ')[2]}"


def _times(found: dict[str, Any]) -> str:
    """How many times faster than the first peer, its range over the turns, and whether that was wanted."""
    ratio = next(iter(found["times_faster"].values()))
    target = "" if found["target"] is None else f", target {found['target']} {'' if found['met'] else 'not '}reached"
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}){target}"


def _mark(mark: dict[str, Any]) -> str:
    if "exported" not in mark:
        return ""
    return f"{mark['exported']:.2f}" + ("" if mark["met"] else f" (missed: {mark['allowed']} points allowed)")


def _note(found: dict[str, Any]) -> str:
    if "refused" in found:
        return "refused by the gate: " + found["refused"].partition(": ")[2].partition(": ")[2]
    left = found.get("quantisation", {}).get("left", ())
    gate = found.get("gate")
    things = "pixels" if gate and gate["metric"] == "mIoU" else "detections"
    notes = [f"{found['agree']} of {found['counted']} {things} agree"] if "counted" in found else []
    notes += [f"logits within {found['logits']:.1e}"] if "logits" in found else []
    weights = " but for their weights" if found.get("quantisation", {}).get("weights_only") else ""
    notes += [f"{len(left)} of {found['quantisation']['layers']} layers left in fp32{weights}"] if left else []
    notes += [f"{0.0 - round(gate['loss'], 2):+.2f} on the gate's {gate['images']} images"] if gate else []
    return ", ".join(notes)


Tables = dict[str, Callable[[], list[str]]]
TABLES: Tables = {
    "digits": digits_table,
    "photographs": photographs_table,
    "detectors": detectors_table,
    "improvements": improvements_table,
    "pretraining": pretraining_table,
    "speed": speed_table,
    "gpu": gpu_table,
}


DEPLOY_TABLES: Tables = {
    "exports": exports_table,
    "deployed-speed": deployed_speed_table,
    "deployed-detector-speed": deployed_detector_speed_table,
    "server-speed": server_speed_table,
}


def filled(text: str, tables: Tables) -> str:
    """A page's text with every table made anew."""
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"no page has a place for the table {name}")
        body = "\n".join(table())
        text = pattern.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)
    return text


def main() -> int:
    for page, tables in ((README, TABLES), (DEPLOY, DEPLOY_TABLES)):
        text = page.read_text(encoding="utf-8")
        if "--check" not in sys.argv:
            page.write_text(filled(text, tables), encoding="utf-8")
        elif filled(text, tables) != text:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
