"""V3 and V4: JPEGs decoded, resized and cropped on the GPU, compared with Pillow and the served preprocessing."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Barrier

import numpy as np
import torch
from PIL import Image
from resnet_build.export_torchscript import FILENAME
from resnet_client.preprocessing import PreprocessConfig, prepare
from torchvision.transforms.v2 import functional

from benchmarks.gpu import Measurement, Settings, listed
from benchmarks.gpu.networks import synchronise
from benchmarks.networks import Pixels
from benchmarks.repository import Repository

# Encoded images → tensors on the device, uint8, shape (height, width, 3); None for one that cannot be decoded.
Decode = Callable[[Sequence[bytes]], Sequence[torch.Tensor | None]]

_MOST_PROCESSES = 3
_TIMEOUT_S = 120.0


def _nvimagecodec(device: str) -> Decode:
    try:
        from nvidia import nvimgcodec
    except ImportError as exc:
        raise OSError("nvImageCodec is missing: pip install nvidia-nvimgcodec-cu13 nvidia-nvjpeg") from exc
    if device == "cuda":
        decoder = nvimgcodec.Decoder(device_id=0)
    else:
        only_cpu = [nvimgcodec.Backend(nvimgcodec.CPU_ONLY)]
        decoder = nvimgcodec.Decoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, backends=only_cpu)

    def tensor(image: object) -> torch.Tensor:
        return torch.utils.dlpack.from_dlpack(image) if device == "cuda" else torch.from_numpy(np.asarray(image))

    return lambda jpegs: [
        None if image is None else tensor(image)
        for image in decoder.decode([nvimgcodec.CodeStream(jpeg) for jpeg in jpegs])
    ]


def _torchvision(device: str) -> Decode:
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(jpegs: Sequence[bytes]) -> list[torch.Tensor]:
        buffers = [torch.frombuffer(bytearray(jpeg), dtype=torch.uint8) for jpeg in jpegs]
        return [image.permute(1, 2, 0) for image in decode_jpeg(buffers, ImageReadMode.RGB, device)]

    return decode


def _pillow(device: str) -> Decode:
    return lambda jpegs: [torch.from_numpy(_pixels(jpeg)).to(device) for jpeg in jpegs]


def _pixels(jpeg: bytes) -> Pixels:
    return np.array(Image.open(io.BytesIO(jpeg)).convert("RGB"))


_DECODERS = {"Pillow": _pillow, "nvImageCodec": _nvimagecodec, "torchvision": _torchvision}


def decoded_images(settings: Settings) -> Iterator[Measurement]:
    """V3: throughput by batch size and number of processes, unusual JPEGs, and the difference from Pillow."""
    for name in _DECODERS:
        for processes in range(1, min(_MOST_PROCESSES, settings.processes) + 1):
            yield Measurement(
                "V3",
                f"{name} in {processes} process{'es' * (processes > 1)}: batches of {listed(settings.batches)}",
                functools.partial(_rates, name, processes, settings),
            )
        yield Measurement("V3", f"{name}: difference from Pillow", functools.partial(_agreement, name, settings))


def _rates(name: str, processes: int, settings: Settings) -> str:
    """Decode in processes that start each batch size together."""
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a forked process
    with context.Manager() as manager, context.Pool(processes) as pool:
        barrier = manager.Barrier(processes, timeout=_TIMEOUT_S)
        found = pool.starmap(_worker, [(name, settings, barrier)] * processes, chunksize=1)
    return f"{listed([sum(rates) for rates in zip(*found, strict=True)])} images/s"


def _worker(name: str, settings: Settings, barrier: Barrier) -> list[float]:
    decode, turns, rates = _DECODERS[name](settings.device), itertools.cycle(settings.jpegs), []
    for batch in settings.batches:
        for _ in range(2):  # the first allocates memory
            decode(list(itertools.islice(turns, batch)))
        barrier.wait()
        count, began_s = 0, time.perf_counter()
        while (taken_s := time.perf_counter() - began_s) < settings.seconds:
            decode(list(itertools.islice(turns, batch)))
            synchronise(settings.device)
            count += batch
        rates.append(count / taken_s)
    return rates


def _agreement(name: str, settings: Settings) -> str:
    decode, (first, *_) = _DECODERS[name](settings.device), settings.jpegs
    differences = [_difference(decode, jpeg) for jpeg in settings.jpegs]
    same = [difference for difference in differences if difference is not None]
    found = [f"{np.mean(same):.2f} of 255 on {len(same)} of {len(differences)} images"]
    for kind, jpeg in {"progressive": _saved(first, "RGB", progressive=True), "CMYK": _saved(first, "CMYK")}.items():
        difference = _difference(decode, jpeg)
        found.append(f"{kind}: {'refused' if difference is None else f'{difference:.2f}'}")
    is_refused = _decoded(decode, first[: len(first) // 2]) is None
    return "; ".join([*found, f"damaged: {'refused' if is_refused else 'decoded'}"])


def _difference(decode: Decode, jpeg: bytes) -> float | None:
    """Mean difference from Pillow's pixels; None without pixels of the same shape."""
    pixels, expected = _decoded(decode, jpeg), _pixels(jpeg)
    if pixels is None or pixels.shape != expected.shape:
        return None
    return float(np.abs(pixels.astype(int) - expected).mean())


def _decoded(decode: Decode, jpeg: bytes) -> Pixels | None:
    with contextlib.suppress(OSError, RuntimeError):  # nvImageCodec returns None instead
        (image,) = decode([jpeg])
        return None if image is None else image.cpu().numpy()
    return None


def _saved(jpeg: bytes, mode: str, *, progressive: bool = False) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).convert(mode).save(buffer, "JPEG", progressive=progressive)
    return buffer.getvalue()


def cropped_images(settings: Settings) -> Iterator[Measurement]:
    """V4: the difference from the served preprocessing, and its effect on the classes."""
    for name in _DECODERS:
        yield Measurement(
            "V4",
            f"{name}, then resize and crop on the device: difference from `preprocess`; equal top-1",
            functools.partial(_cropped, name, settings),
            "at most 1 of 255; at least 99.5 %",
        )


def _cropped(name: str, settings: Settings) -> str:
    decode, config = _DECODERS[name](settings.device), Repository(settings.repository).preprocess_config
    artifact = settings.repository / "network_torchscript/1" / FILENAME
    network = torch.jit.load(artifact, settings.device)  # type: ignore[no-untyped-call]  # PyTorch has not annotated it
    differences, same = [], 0
    for jpeg in settings.jpegs:
        (image,) = decode([jpeg])
        if image is not None:
            pixels = torch.stack([torch.tensor(prepare(jpeg, config), device=settings.device), _crop(image, config)])
            differences.append(float((pixels[0].int() - pixels[1].int()).abs().float().mean()))
            with torch.inference_mode():
                first, second = network(pixels)[0].argmax(dim=1).tolist()
            same += first == second
    return f"{np.mean(differences):.2f} of 255; {same / len(differences):.1%} of {len(differences)} images"


def _crop(image: torch.Tensor, config: PreprocessConfig) -> torch.Tensor:
    """Resize the short side and crop the centre, as torchvision does."""
    mode = functional.InterpolationMode(config.interpolation)
    resized = functional.resize(image.permute(2, 0, 1), [config.resize], mode, antialias=True)
    cropped: torch.Tensor = functional.center_crop(resized, [config.crop]).permute(1, 2, 0)
    return cropped
