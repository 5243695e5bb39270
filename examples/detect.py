"""Train a detector for one kind of object on feature maps that the server computes, and find objects with it.

    resnet-build --backbone
    resnet-client load resnet50_backbone  # into the running server
    python detect.py train boxes.csv      # columns: file, left, top, right, bottom (pixels); one row per box
    python detect.py find street.jpg      # prints the boxes, the most certain first

The backbone stays on the server. A feature pyramid and a region proposal network of torchvision are trained here.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from PIL import Image
from resnet_client import Client, ModelNotFoundError, ResnetClientError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork

MAPS = {"C3": 512, "C4": 1024, "C5": 2048}
SIDE = 224  # of the images that the network takes
SIDES = ("left", "top", "right", "bottom")
CHANNELS, EPOCHS, BATCH = 64, 12, 8


class Detector(nn.Module):
    """Boxes from feature maps: left, top, right, bottom, from 0 to 224."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(list(MAPS.values()), out_channels=CHANNELS)
        anchors = AnchorGenerator(sizes=((32, 45), (64, 90), (128, 180)), aspect_ratios=((0.5, 1.0, 2.0),) * 3)
        head = RPNHead(CHANNELS, anchors.num_anchors_per_location()[0])
        limits = {"training": 100, "testing": 100}
        self.proposals = RegionProposalNetwork(
            anchors,
            head,
            fg_iou_thresh=0.6,
            bg_iou_thresh=0.3,
            batch_size_per_image=128,
            positive_fraction=0.25,
            pre_nms_top_n=limits,
            post_nms_top_n=limits,
            nms_thresh=0.3,
            score_thresh=0.9,
        )

    def forward(self, maps: list[dict[str, Tensor]], boxes: list[Tensor] | None = None) -> tuple[list[Tensor], Tensor]:
        """Boxes of each image, the most certain first, and in training the loss against the true boxes."""
        stacked = OrderedDict((name, torch.stack([each[name] for each in maps])) for name in MAPS)
        images = ImageList(torch.empty(len(maps), 3, SIDE, SIDE), [(SIDE, SIDE)] * len(maps))
        targets = None if boxes is None else [{"boxes": each} for each in boxes]
        found, losses = self.proposals(images, self.pyramid(stacked), targets)
        return found, sum(losses.values(), torch.zeros(()))


def maps_of(client: Client, path: Path) -> tuple[dict[str, Tensor], Tensor]:
    """Feature maps of a whole image, and how many of its pixels (x, y, x, y) a pixel of the network is."""
    config = json.loads(client.metadata(model="resnet50_backbone")["model"]["parameters"]["preprocessing"])
    with Image.open(path) as image:
        # The server cuts a border off, so the image gets one.
        framed = Image.new("RGB", (config["resize"],) * 2)
        framed.paste(image.convert("RGB").resize((SIDE, SIDE)), ((config["resize"] - SIDE) // 2,) * 2)
        scale = torch.tensor(image.size).repeat(2) / SIDE
    return {name: torch.from_numpy(array).float() for name, array in client.feature_maps(framed).items()}, scale


def train(client: Client, table: Path) -> Detector:
    """Train on the boxes of a CSV file; each image is sent once."""
    boxes: dict[Path, list[list[float]]] = {}
    with table.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if not {"file", *SIDES} <= set(rows.fieldnames or ()):
            sys.exit(f"{table}: expected the columns file, {', '.join(SIDES)}")
        for row in rows:
            boxes.setdefault(table.parent / row["file"], []).append([float(row[side]) for side in SIDES])
    images = [(*maps_of(client, path), torch.tensor(each)) for path, each in boxes.items()]
    torch.manual_seed(1)
    detector = Detector()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        for numbers in torch.randperm(len(images)).split(BATCH):
            maps, scales, given = zip(*(images[number] for number in numbers), strict=True)
            _, loss = detector(maps, [each / scale for each, scale in zip(given, scales, strict=True)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1:2d}: loss {loss:.3f}")
    return detector


def find(client: Client, detector: Detector, image: Path) -> Tensor:
    """Boxes (objects, 4) in pixels of the image."""
    maps, scale = maps_of(client, image)
    with torch.inference_mode():
        (boxes,), _ = detector.eval()([maps])
    return boxes * scale


def main() -> None:
    """Train a detector, or print the boxes of an image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="detector.safetensors", metavar="FILE")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("train").add_argument("boxes", type=Path, metavar="CSV")
    commands.add_parser("find").add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    options = parser.parse_args()
    try:
        with Client() as client:
            if options.command == "train":
                save_file(train(client, options.boxes).state_dict(), options.detector)
            else:
                detector = Detector()
                detector.load_state_dict(load_file(options.detector))
                for image in options.images:
                    for box in find(client, detector, image).tolist():
                        print(image, *map(round, box))
    except ModelNotFoundError as exc:
        sys.exit(f"{exc}; build it with resnet-build --backbone")
    except (ResnetClientError, OSError, SafetensorError, ValueError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
