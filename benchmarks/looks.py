"""The decoders of a model beside each other, by look and in eight bits: error, grid and time, on images of a folder.

    python benchmarks/looks.py KODAK [--runs 15]

Each image is encoded once at each rate, and the same file is decoded in each look. So all differences are those of the
decoders. Times are medians of one file at quality 50; nothing else should run meanwhile.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import numpy as np
from harness import image_paths, interleaved_ms, open_rgb, sample_photo, write_results
from metrics import METRICS, all_metrics
from rate_distortion import DIGITS, border_and_inner_step, flat_places, mean

import sdtrt
from sdtrt.engine.image import psnr
from sdtrt.engine.networks.backends import INT8_DECODER
from sdtrt.engine.networks.backends.openvino import best_precision
from sdtrt.engine.networks.bundle import find_bundle
from sdtrt.engine.networks.choices import Look

RATES = (0.1, 0.15, 0.2, 0.3, 0.4)  # bits per pixel, at most
GRID_QUALITIES = (10, 25, 50)
TIMED_QUALITY = 50


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the looks of a model.")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--model", default="tiny", help="name of a model, or folder of a bundle")
    parser.add_argument("--runs", type=int, default=15, help="timed decodes of each look")
    arguments = parser.parse_args()
    looks = find_bundle(arguments.model).looks
    times = decode_ms(arguments.model, looks, arguments.runs)  # first, while the processor is cool
    paths = image_paths(arguments.images)
    codec = sdtrt.Codec.open(arguments.model, precision="fp32")
    rows = [row for rate in RATES for row in differences(codec, looks, paths, rate)]
    grid = [row for quality in GRID_QUALITIES for row in blockiness(codec, looks, paths, quality)]
    figures = {"images": len(paths), "rates": rows, "border_step_over_inner_step": grid, "decode_ms": times}
    if INT8_DECODER in find_bundle(arguments.model).files:
        figures["int8"] = [int8_change(arguments.model, paths, rate) for rate in RATES[1:]]
    print(write_results("looks", figures))


def differences(codec: sdtrt.Codec, looks: tuple[Look, ...], paths: list[Path], rate: float) -> list[dict[str, Any]]:
    """Return for each look the mean of each metric at a rate, and its difference to `faithful`: mean and worst."""
    scores: dict[Look, list[dict[str, float]]] = {look: [] for look in looks}
    for path in paths:
        image = open_rgb(path)
        data, pixels = codec.encode(image, bpp=rate), np.asarray(image)
        for look in looks:
            scores[look].append(all_metrics(pixels, np.asarray(codec.decode(data, look=look))))
    rows = []
    for look, found in scores.items():
        row: dict[str, Any] = {"bpp": rate, "look": look}
        for metric in METRICS:
            values = np.array([one[metric] for one in found])
            change = values - [one[metric] for one in scores["faithful"]]
            row[metric] = round(float(values.mean()), DIGITS[metric])
            row[f"{metric}_change"] = round(float(change.mean()), DIGITS[metric])
            row[f"{metric}_worst_change"] = round(float(change.min()), DIGITS[metric])
        rows.append(row)
    return rows


def blockiness(codec: sdtrt.Codec, looks: tuple[Look, ...], paths: list[Path], quality: int) -> list[dict[str, Any]]:
    """Return for each look the step across borders of 8x8 blocks over that inside, in flat places; 1 is no grid."""
    steps: dict[Look, list[tuple[float, float]]] = {look: [] for look in looks}
    for image in map(open_rgb, paths):
        data, flat = codec.encode(image, quality=quality), flat_places(image)
        for look in looks:
            steps[look].append(border_and_inner_step(np.asarray(codec.decode(data, look=look)), flat))
    return [
        {"quality": quality, "look": look, "ratio": round(float(np.divide(*np.mean(pairs, axis=0))), 4)}
        for look, pairs in steps.items()
    ]


def int8_change(model: str, paths: list[Path], rate: float) -> dict[str, Any]:
    """Return the change of PSNR by eight bits at a rate, in dB, against single precision: mean and worst."""
    exact, int8 = (
        sdtrt.Codec.open(model, backend="ort", device="cpu", precision=precision) for precision in ("fp32", "int8")
    )
    changes = []
    for image in map(open_rgb, paths):
        data, pixels = exact.encode(image, bpp=rate), np.asarray(image)
        one, other = (psnr(pixels, np.asarray(codec.decode(data))) for codec in (exact, int8))
        changes.append(other - one)
    return {"bpp": rate, "psnr_change": round(mean(changes), 4), "psnr_worst_change": round(min(changes), 4)}


def decode_ms(model: str, looks: tuple[Look, ...], runs: int) -> list[dict[str, Any]]:
    """Return the median milliseconds of a decode of 768x512 by each backend, precision and look, calls in turn."""
    precisions = ["fp32", *(["int8"] if INT8_DECODER in find_bundle(model).files else [])]
    choices = [(backend, precision) for backend in ("ort", "openvino") for precision in precisions]
    choices += [("openvino", "bf16")] if best_precision() == "bf16" else []
    data = sdtrt.encode(sample_photo(), model=model, quality=TIMED_QUALITY)
    calls = {}
    for backend, precision in choices:
        codec = sdtrt.Codec.open(model, backend=backend, device="cpu", precision=precision)
        timed: tuple[Look, ...] = (
            ("faithful",) if precision == "int8" else looks
        )  # other decoders are not in eight bits
        calls |= {(backend, precision, look): functools.partial(codec.decode, data, look=look) for look in timed}
    return [
        {"backend": backend, "precision": precision, "look": look, "ms": round(ms, 1)}
        for (backend, precision, look), ms in zip(calls, interleaved_ms([*calls.values()], runs), strict=True)
    ]


if __name__ == "__main__":
    main()
