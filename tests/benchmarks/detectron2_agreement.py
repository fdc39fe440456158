#!/usr/bin/env python
"""Our detector against detectron2's, on photographs, with the same pseudo-random weights read from one model-zoo file.

Needs detectron2, installed or as a folder in which ``python setup.py build_ext --inplace`` was run. Both sides get the
photograph's pixels and do the rest themselves: resizing, normalization, detection, masks. The output layers are fitted
to the first two photographs, so that detections are distinct; a detection agrees if the other side has one of the same
class, IoU > 0.99, score within 1e-3 and, where there are masks, mask IoU > 0.98.

    python tests/benchmarks/detectron2_agreement.py --detectron2 DIR --pictures PHOTOS \\
        --output results/detectron2_agreement.json

"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from backbones.images import SUFFIXES, Picture, read_image
from backbones.running.measurement import write_measurement
from detection.agreement import Agreement, agreement
from detection.building import load_detector
from detection.detections import Detections
from detection.masks.run_length import RunLengthMasks
from tests.detection.detectron2_weights import OUTPUTS, zoo_content
from tests.detection.spread_outputs import spread_outputs

LEAST_RATE = 0.995
MODELS = {
    "faster_rcnn_R_50_C4": ("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", "C4", 50, False),
    "mask_rcnn_R_50_C4": ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", "C4", 50, True),
    "faster_rcnn_R_101_FPN": ("COCO-Detection/faster_rcnn_R_101_FPN_3x.yaml", "FPN", 101, False),
    "mask_rcnn_R_101_FPN": ("COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x.yaml", "FPN", 101, True),
}


def main() -> int:
    options = parse()
    sys.path[:0] = options.detectron2
    torch.set_num_threads(options.threads)
    pictures = [read_image(path) for path in find_pictures(options.pictures)[: options.count]]
    results = {name: compare(name, pictures) for name in options.models}
    reached = all(row["rate"] >= LEAST_RATE for row in results.values())
    if options.output:
        write_measurement(
            options.output,
            what="detections of detectron2 and of ours with the same weights: same class, IoU > 0.99, score within "
            "1e-3, mask IoU > 0.98",
            command="python tests/benchmarks/detectron2_agreement.py --detectron2 DIR --pictures PHOTOS "
            "--output results/detectron2_agreement.json",
            target={"rate": LEAST_RATE, "reached": reached},
            settings={"weights": "pseudo-random, seeded", "shapes": [list(picture.shape[:2]) for picture in pictures]},
            results=results,
        )
    return 0 if reached else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectron2", action="append", default=[], help="folder to import it from, or what it needs")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--pictures", nargs="+", required=True, help="photographs, or folders of them")
    parser.add_argument("--count", type=int, default=10, help="so many photographs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="write a JSON file")
    return parser.parse_args()


def find_pictures(places: Sequence[str]) -> list[Path]:
    """Files, and those in folders."""
    found = [sorted(Path(place).iterdir()) if Path(place).is_dir() else [Path(place)] for place in places]
    return [path for paths in found for path in paths if path.suffix.lower() in SUFFIXES]


def compare(name: str, pictures: list[Picture]) -> dict[str, Any]:
    """Rates of one model over all pictures."""
    from detectron2.checkpoint import DetectionCheckpointer

    config, design, depth, masks = MODELS[name]
    theirs = TheirDetector(config)
    content = zoo_content(design, depth, masks)
    theirs.load(content["model"])
    theirs.spread(pictures[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model_final.pkl"
        content["model"] = {key: value.numpy() for key, value in theirs.model.state_dict().items()}
        path.write_bytes(pickle.dumps(content, protocol=2))
        DetectionCheckpointer(theirs.model).load(str(path))
        ours = load_detector(path)
    total = Agreement(0, 0, 0, 0)
    seconds = [0.0, 0.0]
    for picture in pictures:
        started = time.perf_counter()
        expected = theirs.detect(picture)
        middle = time.perf_counter()
        found = ours.predict(picture, threshold=0)
        seconds = [seconds[0] + middle - started, seconds[1] + time.perf_counter() - middle]
        total += agreement([expected], [found])
    print(f"{name}: {total.met} of {total.counted} agree ({total.rate:.2%}); {seconds[0]:.0f} s and {seconds[1]:.0f} s")
    return {"counted": total.counted, "met": total.met, "rate": round(total.rate, 5)}


class TheirDetector:
    """detectron2's detector with its predictor's preprocessing.

    Args:
        config: of its model zoo.
        changes: of the configuration, names and values in turn.
    """

    def __init__(self, config: str, changes: Sequence[Any] = ()) -> None:
        import detectron2
        from detectron2.config import get_cfg
        from detectron2.data.transforms import ResizeShortestEdge
        from detectron2.modeling import build_model

        cfg = get_cfg()
        package = Path(detectron2.__file__).parent
        folders = (package / "model_zoo" / "configs", package.parent / "configs")
        cfg.merge_from_file(str(next(folder / config for folder in folders if (folder / config).exists())))
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *changes])
        self.model: Any = build_model(cfg).eval()
        self.resize = ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)

    def load(self, values: dict[str, Any]) -> None:
        """Every tensor of theirs, by name."""
        self.model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=True)

    def spread(self, pictures: Sequence[Picture]) -> dict[str, tuple[float, list[float]]]:
        """Distinct scores on these pictures. For each output layer the factor of its weights, and its bias."""
        modules = dict(self.model.named_modules())
        layers = {name: modules[name] for name in OUTPUTS if name in modules}

        def run() -> None:
            for picture in pictures:
                self.detect(picture)

        factors = spread_outputs([(layer, OUTPUTS[name]) for name, layer in layers.items()], run)
        biases = [layer.bias.tolist() for layer in layers.values()]
        return dict(zip(layers, zip(factors, biases, strict=True), strict=True))

    @torch.no_grad()
    def detect(self, picture: Picture) -> Detections:
        """As ``DefaultPredictor`` does: BGR, resized by Pillow, found in the picture's own pixels."""
        turned = np.ascontiguousarray(picture[:, :, ::-1])
        resized = self.resize.get_transform(turned).apply_image(turned)
        image = torch.as_tensor(np.ascontiguousarray(resized.astype("float32").transpose(2, 0, 1)))
        height, width = picture.shape[:2]
        found = self.model([{"image": image, "height": height, "width": width}])[0]["instances"]
        masks = RunLengthMasks.from_dense(found.pred_masks.numpy()) if found.has("pred_masks") else None
        return Detections(found.pred_boxes.tensor.numpy(), found.scores.numpy(), found.pred_classes.numpy(), masks)


if __name__ == "__main__":
    sys.exit(main())
