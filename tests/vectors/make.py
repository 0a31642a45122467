"""Write the conformance vectors beside this file: a change of the format, to be reviewed as one.

A case is a folder with `input.sdt`, what it decodes to, and `expect.json`. Most decode to `symbols.npy` (int16), with
some priors also to `points.npy` (int8), those of method palette to `latents.npy` (float32). Names that start with `x_`
must fail, with the error that `expect.json` names. Symbols are seeded noise: no encoder network has a say.
"""

import dataclasses
import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding import entropy
from sdtrt.engine.coding.latents import decoded_file, latents_of_file, palette_file
from sdtrt.engine.coding.prior import network_prior
from sdtrt.engine.coding.prior_adaptive import fit_adaptive
from sdtrt.engine.format import alpha, container
from sdtrt.engine.format.container import ALPHA, PROFILE, File, Header
from sdtrt.engine.format.metadata import Metadata, chunks_of
from sdtrt.engine.format.profile import (
    ADAPTIVE_PRIOR,
    INLINE,
    PALETTE,
    PRIOR_NAMES,
    LatentProfile,
    pack,
    shipped_profile,
)

FOLDER = Path(__file__).parent
TINY, SD1 = 1, 2  # profiles, and the priors that belong to them
Symbols = NDArray[np.int16]


def main() -> None:
    whole = tiny_file(noise(1, TINY, 61, 43), 61, 43, 1900)
    write_case("tiny_odd_size", "the shipped profile and prior at a size that is no multiple of 8", whole)
    write_case("tiny_1x1", "the smallest picture", tiny_file(noise(2, TINY, 1, 1), 1, 1, 4095))
    write_case("tiny_all_zero", "symbols that cost next to nothing", tiny_file(0 * noise(3, TINY, 64, 64), 64, 64, 0))
    write_case("tiny_grey", "the grey flag", tiny_file(noise(4, TINY, 24, 40), 24, 40, 2048, grey=True))
    escapes = noise(5, TINY, 33, 17)
    escapes.flat[::7] = np.random.default_rng(5).integers(-32768, 32768, escapes.flat[::7].size)
    escapes.flat[:2] = -32768, 32767
    write_case("tiny_escapes", "symbols over all 16 bits", tiny_file(escapes, 33, 17, 1500))
    plane = (np.add.outer(np.arange(20) ** 2, 5 * np.arange(30)) % 256).astype(np.uint8)
    chunks = {
        ALPHA: alpha.encode(plane),
        **chunks_of(Metadata(text=(("Comment", "made for a test"),))),
        0x70: b"of a later version",
    }
    write_case(
        "tiny_alpha",
        "an alpha plane, a text, and an optional chunk that no version knows",
        tiny_file(noise(6, TINY, 30, 20), 30, 20, 1700, chunks=chunks),
        alpha=plane,
    )
    write_case("adaptive_inline", "a profile in the file, the adaptive prior", inline_file())
    write_case(
        "sd1_adaptive", "a shipped profile with the adaptive prior", sd1_file(noise(8, SD1, 83, 50), 83, 50, 1800)
    )
    for name, profile, (width, height), code in (
        ("sd1_odd_size", SD1, (75, 50), 1800),
        ("sd1_1x1", SD1, (1, 1), 2048),
        ("sd1_coarse", SD1, (100, 60), 3100),
        ("sd1_fine", SD1, (60, 90), 700),
        ("tiny_smooth", TINY, (61, 43), 1900),
        ("tiny_coarse", TINY, (40, 56), 2900),
    ):
        symbols = np.rint(smooth(code, profile, width, height) / 2 ** ((code - 2048) / 256)).astype(np.int16)
        file = network_file(symbols, width, height, profile, code)
        write_case(name, f"networks that see latents, at step code {code}", file)
    wide = noise(9, SD1, 83, 50)
    wide.flat[:2] = -32768, 32767
    write_case("sd1_escapes", "symbols over all 16 bits", network_file(wide, 83, 50, SD1, 2048))
    latents = smooth(10, SD1, 70, 45)
    write_case("sd1_palette", "the method that came first", palette_file(latents, 70, 45, shipped_profile(SD1)))
    write_failures(container.write(whole))


def noise(seed: int, identifier: int, width: int, height: int) -> Symbols:
    """Return symbols in which some channels hold nearly nothing and some a good deal."""
    rng = np.random.default_rng(seed)
    shape = shipped_profile(identifier).grid(width, height)
    reach = rng.choice([1, 1, 1, 2, 5, 40, 400], (shape[0], 1, 1))
    return (rng.integers(-reach, reach + 1, shape) * (rng.random(shape) < 0.4)).astype(np.int16)


def smooth(seed: int, identifier: int, width: int, height: int) -> NDArray[np.float32]:
    """Return latents of a profile that resemble a picture's: waves and noise, some of both beyond one deviation."""
    rng = np.random.default_rng(seed)
    channels, rows, columns = shipped_profile(identifier).grid(width, height)
    c, y, x = np.ogrid[:channels, :rows, :columns]
    waves = np.sin(y / 3 + c) * (c + 1) / 2 + np.cos(x / 4 - c)
    return (waves + rng.normal(0, 0.4, waves.shape)).astype(np.float32)


def tiny_file(symbols: Symbols, width: int, height: int, step_code: int, grey: bool = False, **parts: Any) -> File:
    return network_file(symbols, width, height, TINY, step_code, grey, **parts)


def network_file(
    symbols: Symbols,
    width: int,
    height: int,
    profile: int,
    step_code: int,
    grey: bool = False,
    **parts: Any,
) -> File:
    payload = entropy.encode(symbols, network_prior(PRIOR_NAMES[profile]), step_code)
    return File(Header(width, height, profile, profile, step_code, grey), payload, **parts)


def sd1_file(symbols: Symbols, width: int, height: int, step_code: int) -> File:
    return File(Header(width, height, SD1, ADAPTIVE_PRIOR, step_code), adaptive_payload(symbols, step_code))


def adaptive_payload(symbols: Symbols, step_code: int) -> bytes:
    prior = fit_adaptive(symbols)
    return prior.parameters.tobytes() + entropy.encode(symbols, prior, step_code)


def inline_file() -> File:
    n = np.arange(6, dtype=np.float32)
    profile = LatentProfile("x-0badcafe", 6, 8, n / 4, 1 + n / 8, 1 - n / 16, n / 64, (2300, 1300), 0)
    rng = np.random.default_rng(7)
    steps = rng.integers(-3, 4, profile.grid(90, 70)) * np.array([0, 1, 2, 5, 30, 900])[:, None, None]
    symbols = np.clip(steps.cumsum(1).cumsum(2), -32768, 32767).astype(np.int16)
    return File(Header(90, 70, INLINE, profile.prior, 2222), adaptive_payload(symbols, 2222), {PROFILE: pack(profile)})


def write_case(name: str, tests: str, file: File, alpha: NDArray[np.uint8] | None = None) -> None:
    expect: dict[str, Any] = {"tests": tests, "header": dataclasses.asdict(file.header)}
    arrays: dict[str, NDArray[Any]] = {}
    if file.header.prior == PALETTE:
        arrays["latents"] = latents_of_file(file)
    else:
        decoded = decoded_file(file)
        arrays["symbols"] = decoded.symbols
        expect["symbols_sha256"] = sha256(decoded.symbols.astype("<i2").tobytes())
        if decoded.points is not None:
            arrays["points"] = decoded.points
    expect["chunks_sha256"] = {f"{kind:#04x}": sha256(data) for kind, data in sorted(file.chunks.items())}
    if alpha is not None:
        expect["alpha_sha256"] = sha256(alpha.tobytes())
    write(name, container.write(file), expect)
    for kind, array in arrays.items():
        np.save(FOLDER / name / f"{kind}.npy", array)


def write_failures(data: bytes) -> None:
    body = data[:-4]
    later = bytes([*body[:3], container.VERSION + 1, *body[4:]])
    flags = body.index(struct.pack("<H", 1900))
    chunked = body[:flags] + struct.pack("<H", 1900 | container.CHUNKS_FLAG) + b"\x01p"
    cases = {
        "x_flipped_byte": ("one bit of the payload", data[:40] + bytes([data[40] ^ 1]) + data[41:]),
        "x_truncated": ("the last byte is missing", data[:-1]),
        "x_trailing_byte": ("a byte after the end", data + b"\0"),
        "x_version": ("a later version of the format", sealed(later)),
        "x_required_chunk": ("a required chunk of a later version", sealed(chunked + b"\xf0\x03new")),
        "x_left_over": ("data after the last symbol", sealed(body + b"\x01\x02\x03\x04\x05")),
        "x_short_payload": ("symbols without data", sealed(body[:-40])),
        "x_two_files": ("one file after another", data + data),
        "x_profile": ("a profile of a later version", sealed(body[:4] + b"\xc8" + body[5:])),
        "x_prior": ("a prior of a later version", sealed(body[:5] + b"\xc8" + body[6:])),
    }
    for name, (tests, wrong) in cases.items():
        write(name, wrong, {"tests": tests, "error": "FormatError"})
    forbidden = container.write(File(Header(16, 16, TINY, PALETTE, 0), zlib.compress(bytes(256 * 40 + 4))))
    write("x_palette_of_tiny", forbidden, {"tests": "method palette with 40 channels", "error": "FormatError"})
    vast = container.write(File(Header(1 << 24, 1 << 24, TINY, TINY, 2048), b""))
    write("x_vast", vast, {"tests": "more pixels than the limit", "error": "LimitError"})


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def write(name: str, data: bytes, expect: dict[str, Any]) -> None:
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    (folder / "input.sdt").write_bytes(data)
    (folder / "expect.json").write_text(json.dumps(expect, indent=2) + "\n")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
