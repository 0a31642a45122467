"""Bytes at equal latent error: sdtrt's coder beside other ways to store the same latents, on square crops.

    python benchmarks/rate.py FOLDER --model BUNDLE

The palette method of 2022 sets the mean squared error (of latents at unit scale); every other way takes the step at
which its mean error over the pictures is the same. sdtrt's and the palette's sizes are those of whole files.
"""

import argparse
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from report import write_results

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding import stream_codec
from sdtrt.engine.coding.latent_file import (
    TileCodingOptions,
    decode_latents,
    encode_latents_to_file,
    encode_palette_file,
)
from sdtrt.engine.coding.latent_reader import channel_steps
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.rdoq_search import rd_costs
from sdtrt.engine.coding.stream_codec import DEFAULT_EFFORT
from sdtrt.engine.format import container
from sdtrt.engine.format.container import Header
from sdtrt.engine.format.profile import PRIOR_NAMES, LatentProfile
from sdtrt.kernels import reference

SIDE = 512
EFFORTS = (1, DEFAULT_EFFORT, 9)
QUALITIES = (1, 10, 25, 50, 75, 90, 100)
VAEPACK_BITS, VAEPACK_CLIP = 10, 4.0  # its defaults

Latents = NDArray[np.float32]
Code = Callable[[Latents, float], tuple[float, Latents]]  # latents and a step (or its code) to bytes and latents


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes at equal latent error.")
    parser.add_argument("folder", type=Path, help="folder of PNG pictures, such as the Kodak set")
    parser.add_argument("-m", "--model", required=True, help="folder of an sd1 bundle")
    arguments = parser.parse_args()
    codec = EngineCodec(arguments.model)
    crops = [square(Image.open(path).convert("RGB")) for path in sorted(arguments.folder.glob("*.png"))]
    latents = [codec.analyse(crop) for crop in crops]
    figures = measure(latents, codec.profile)
    path = write_results("rate", {"pictures": len(crops), "latent_shape": list(latents[0].shape), **figures})
    for row in figures["rows"]:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print({key: value for key, value in figures.items() if key != "rows"})
    print(path)


def square(image: Image.Image) -> NDArray[np.uint8]:
    """Return the centre of an image, uint8 (SIDE, SIDE, 3)."""
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def measure(latents: list[Latents], profile: LatentProfile) -> dict[str, Any]:
    palette = [by_palette(plane, profile) for plane in latents]
    aim = float(np.mean([error(plane, back) for plane, (_, back) in zip(latents, palette, strict=True)]))
    nbytes = float(np.mean([size for size, _ in palette]))
    rows = [{"method": "palette, the method of 2022, whole file", "bytes": round(nbytes), "mse": round(aim, 5)}]
    ways: dict[str, tuple[Code, tuple[float, float]]] = {
        "zlib -9 of rounded latents": (by_zlib, (0.4, 1.0)),
        "JPEG XL lossless of rounded latents": (by_jpeg_xl, (0.4, 1.0)),
        "entropy of rounded latents, order 0 by channel": (by_order_0, (0.4, 1.0)),
    }
    for effort in EFFORTS:
        ways[f"sdtrt, effort {effort}, whole file"] = (by_sdtrt(profile, effort), (1792, 2048))
    for name, (code, bounds) in ways.items():
        step, size, mse = at_error(latents, code, aim, bounds)
        rows.append({"method": name, "step": round(step, 4), "bytes": round(size), "mse": round(mse, 5)})
        if "sdtrt" in name:
            rows[-1]["ms"] = round(statistics.median(milliseconds(code, plane, step) for plane in latents), 1)
    found = [by_vaepack(plane) for plane in latents]
    mse = float(np.mean([error(plane, back) for plane, (_, back) in zip(latents, found, strict=True)]))
    rows.append(
        {
            "method": "vaepack's way: 10 bits, JPEG XL lossless",
            "bytes": round(float(np.mean([n for n, _ in found]))),
            "mse": float(f"{mse:.2g}"),
        }
    )
    return {
        "rows": rows,
        "over_cross_entropy": round(over_cross_entropy(latents, profile, rows), 4),
        "qualities": [at_quality(latents, profile, quality) for quality in QUALITIES],
    }


def at_quality(latents: list[Latents], profile: LatentProfile, quality: int) -> dict[str, float]:
    """Return mean bytes and error at a quality and the default effort, for latents kept as data."""
    size, mse = means(latents, by_sdtrt(profile, DEFAULT_EFFORT), profile.step_code(quality))
    relative = (mse / float(np.mean([np.square(plane).mean() for plane in latents]))) ** 0.5
    return {"quality": quality, "bytes": round(size), "mse": float(f"{mse:.3g}"), "relative": round(relative, 4)}


def milliseconds(code: Code, latents: Latents, step: float) -> float:
    started = time.perf_counter()
    code(latents, step)
    return 1000 * (time.perf_counter() - started)


def at_error(latents: list[Latents], code: Code, aim: float, bounds: tuple[float, float]) -> tuple[float, float, float]:
    """Return the largest step whose mean error is at most `aim`, and the mean bytes and error there."""
    fine, coarse = bounds
    best = (fine, *means(latents, code, fine))
    for _ in range(8):
        step = (fine + coarse) / 2
        size, mse = means(latents, code, step)
        if mse <= aim:
            fine, best = step, (step, size, mse)
        else:
            coarse = step
    return best


def means(latents: list[Latents], code: Code, step: float) -> tuple[float, float]:
    found = [(plane, *code(plane, step)) for plane in latents]
    sizes, errors = [size for _, size, _ in found], [error(plane, back) for plane, _, back in found]
    return float(np.mean(sizes)), float(np.mean(errors))


def error(latents: Latents, back: Latents) -> float:
    return float(np.square(latents - back).mean())


def by_palette(latents: Latents, profile: LatentProfile) -> tuple[int, Latents]:
    data = container.write(encode_palette_file(latents, *size_of(latents), profile))
    return len(data), decode_latents(container.read(data))


def by_sdtrt(profile: LatentProfile, effort: int) -> Code:
    def code(latents: Latents, step_code: float) -> tuple[float, Latents]:
        file = encode_latents_to_file(
            latents, *size_of(latents), profile, round(step_code), TileCodingOptions(effort=effort)
        )
        data = container.write(file)
        return len(data), decode_latents(container.read(data))

    return code


def by_zlib(latents: Latents, step: float) -> tuple[float, Latents]:
    symbols = np.rint(latents / step)
    return len(zlib.compress(np.clip(symbols, -128, 127).astype(np.int8).tobytes(), 9)), symbols * np.float32(step)


def by_jpeg_xl(latents: Latents, step: float) -> tuple[float, Latents]:
    symbols = np.rint(latents / step)
    shifted = (symbols - symbols.min()).astype(np.uint8).transpose(1, 2, 0)
    return len(imagecodecs.jpegxl_encode(shifted, lossless=True, effort=7)), symbols * np.float32(step)


def by_order_0(latents: Latents, step: float) -> tuple[float, Latents]:
    symbols = np.rint(latents / step)
    counts = [np.unique(plane, return_counts=True)[1] for plane in symbols]
    bits = -sum((n * np.log2(n / n.sum())).sum() for n in counts)
    return bits / 8, symbols * np.float32(step)


def by_vaepack(latents: Latents) -> tuple[int, Latents]:
    levels = (1 << VAEPACK_BITS) - 1
    scaled = np.rint((np.clip(latents, -VAEPACK_CLIP, VAEPACK_CLIP) / VAEPACK_CLIP + 1) / 2 * levels)
    data = imagecodecs.jpegxl_encode(scaled.astype(np.uint16).transpose(1, 2, 0), lossless=True, effort=7)
    return len(data), ((scaled / levels * 2 - 1) * VAEPACK_CLIP).astype(np.float32)


def over_cross_entropy(latents: list[Latents], profile: LatentProfile, rows: list[dict[str, Any]]) -> float:
    """Return payload bytes over what the prior's own tables say that the symbols cost, at the default effort's step."""
    step_code = next(round(row["step"]) for row in rows if f"effort {DEFAULT_EFFORT}" in row["method"])
    prior = shipped_prior(PRIOR_NAMES[profile.prior])
    coded = bound = 0.0
    for plane in latents:
        header = Header(*size_of(plane), profile.id, profile.prior, step_code)
        scaled = reference.scale_to_steps(plane, profile.mean, channel_steps(profile, header))
        payload = stream_codec.quantize_and_encode(scaled, prior, step_code, DEFAULT_EFFORT).data
        symbols = stream_codec.decode_stream(payload, plane.shape, prior, step_code).symbols
        coded += len(payload)
        bound += rd_costs(symbols, scaled, prior, step_code).bits.sum(dtype=np.float64) / 8
    return coded / bound


def size_of(latents: Latents) -> tuple[int, int]:
    """Return the width and height of the picture of latents."""
    return 8 * latents.shape[2], 8 * latents.shape[1]


if __name__ == "__main__":
    main()
