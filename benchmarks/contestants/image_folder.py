"""torchvision: `ImageFolder` with `Resize`, read by a worker per core.

`python -m benchmarks.contestants.image_folder FOLDER SIDE OUT` prints a line of JSON
with the seconds, without those of the imports, and saves the pixels as OUT.
"""

import importlib.metadata
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

# The registry's torchvision is built for CUDA. With a CPU build of torch it lacks its
# operators. No picture needs one, but these two must exist.
if torch.version.cuda is None and "+" not in importlib.metadata.version("torchvision"):
    for name in ("nms", "qnms"):
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{name}", signature)

from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, PILToTensor, Resize

BATCH = 64


def read(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 `[n, side, side, 3]` and labels `[n]`, in the order of the paths."""
    shrink = Compose([Resize((side, side)), PILToTensor()])
    pictures = ImageFolder(str(folder), shrink)
    loader = DataLoader(pictures, BATCH, num_workers=os.cpu_count() or 1)
    images = np.empty((len(pictures), side, side, 3), np.uint8)
    labels = np.empty(len(pictures), np.int32)
    for number, (batch, targets) in enumerate(loader):
        rows = slice(number * BATCH, number * BATCH + len(targets))
        images[rows] = batch.permute(0, 2, 3, 1).numpy()
        labels[rows] = targets.numpy()
    return images, labels


def main() -> None:
    """Reads, prints the seconds, and saves the pixels."""
    folder, side, out = sys.argv[1:]
    began = time.perf_counter()
    images, labels = read(Path(folder), int(side))
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    np.savez(out, images=images, labels=labels)


if __name__ == "__main__":
    main()
