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
from sdtrt.engine.coding.latents import latents_of_file, palette_file
from sdtrt.engine.coding.priors.adaptive import fit_adaptive
from sdtrt.engine.coding.priors.passes import Inner
from sdtrt.engine.coding.priors.prior import network_prior
from sdtrt.engine.coding.stored import StoredLatents, inner_of, levels_of
from sdtrt.engine.format import alpha, container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.layout import SINGLE, Layout, spans
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
    chunks = {**chunks_of(Metadata(text=(("Comment", "made for a test"),))), 0x70: b"of a later version"}
    write_case(
        "tiny_alpha",
        "an alpha plane, a text, and an optional chunk that no version knows",
        with_alpha(tiny_file(noise(6, TINY, 30, 20), 30, 20, 1700, chunks=chunks), plane),
        alpha=plane,
    )
    write_case(
        "tiny_chunks", "chunks behind a single stream", tiny_file(noise(7, TINY, 30, 20), 30, 20, 1, chunks=chunks)
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
    write_tiles()
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


def write_tiles() -> None:
    """Write cases of several tiles: each a stream of its own, cut into levels."""
    width, height, code = 530, 520, 2300
    for name, profile, layout in (
        ("tiny_tiles", TINY, Layout(2, 2, 4)),
        ("tiny_tiles_one_level", TINY, Layout(1, 2, 1)),
        ("sd1_tiles", SD1, Layout(2, 1, 3)),
    ):
        symbols = np.rint(smooth(12, profile, width, height) / 2 ** ((code - 2048) / 256)).astype(np.int16)
        header = Header(width, height, profile, profile, code)
        write_case(name, "tiles", file_of_symbols(symbols, header, layout, shipped_profile(profile)))
    own, (width, height) = own_profile(), (513, 300)
    symbols = np.rint(np.random.default_rng(3).laplace(0, 2, own.grid(width, height))).astype(np.int16)
    header = Header(width, height, INLINE, ADAPTIVE_PRIOR, 2000)
    write_case(
        "adaptive_tiles", "tiles with parameters of their own", file_of_symbols(symbols, header, Layout(2, 1, 3), own)
    )
    width, height = 520, 40
    plane = (np.add.outer(np.arange(height), np.arange(width) // 3) % 256).astype(np.uint8)
    header, profile = Header(width, height, TINY, TINY, 1800), shipped_profile(TINY)
    file = with_alpha(file_of_symbols(noise(13, TINY, width, height), header, Layout(2, 1, 4), profile), plane)
    write_case("tiny_tiles_alpha", "tiles with alpha", file, alpha=plane)


def file_of_symbols(symbols: Symbols, header: Header, layout: Layout, profile: LatentProfile, **parts: Any) -> File:
    """Return the file of symbols, int16 (C, h, w), in tiles as `layout` has them; `parts` as of `File`."""
    assert layout.levels in {1, levels_of(profile, header.prior)}
    _, height, width = symbols.shape
    streams, alignment = [], 0
    for rows in spans(height, layout.rows):
        for columns in spans(width, layout.columns):
            inner = inner_of(rows, columns, height, width)
            levels, short = segments_of(symbols[:, slice(*rows), slice(*columns)], header, layout.levels, inner)
            alignment = alignment if streams else short
            streams.append(levels)
    segments = tuple(stream[level] for level in range(layout.levels) for stream in streams)
    own = pack(profile) if header.profile == INLINE else b""
    return File(dataclasses.replace(header, alignment=alignment), segments, layout, own, **parts)


def segments_of(symbols: Symbols, header: Header, levels: int, inner: Inner) -> tuple[list[bytes], int]:
    """Return a tile's levels, and by how many bytes the first word of its stream is short."""
    parameters = b""
    if header.prior == ADAPTIVE_PRIOR:
        fitted = fit_adaptive(symbols, inner)
        parameters = fitted.parameters.tobytes()
        stream = entropy.encode(symbols, fitted, header.step_code, inner)
    else:
        stream = entropy.encode(symbols, network_prior(PRIOR_NAMES[header.prior]), header.step_code, inner)
    first, *rest = [stream.data] if levels == 1 else stream.levels()
    return [parameters + first, *rest], -len(first) % 4


def with_alpha(file: File, plane: NDArray[np.uint8]) -> File:
    """Return a file with an alpha plane, uint8 (H, W)."""
    scale = 8
    tiles = alpha.tiles_of_pixels(plane.shape[1], plane.shape[0], scale, file.layout)
    segments = [alpha.encode(plane[slice(*rows), slice(*columns)]) for rows, columns in tiles]
    layout = dataclasses.replace(file.layout, alpha=True)
    return dataclasses.replace(file, segments=(*file.segments, *segments), layout=layout)


def tiny_file(symbols: Symbols, width: int, height: int, step_code: int, grey: bool = False, **parts: Any) -> File:
    return network_file(symbols, width, height, TINY, step_code, grey, **parts)


def network_file(
    symbols: Symbols, width: int, height: int, profile: int, step_code: int, grey: bool = False, **parts: Any
) -> File:
    header = Header(width, height, profile, profile, step_code, grey)
    return file_of_symbols(symbols, header, SINGLE, shipped_profile(profile), **parts)


def sd1_file(symbols: Symbols, width: int, height: int, step_code: int) -> File:
    header = Header(width, height, SD1, ADAPTIVE_PRIOR, step_code)
    return file_of_symbols(symbols, header, SINGLE, shipped_profile(SD1))


def own_profile() -> LatentProfile:
    n = np.arange(6, dtype=np.float32)
    return LatentProfile("x-0badcafe", 6, 8, n / 4, 1 + n / 8, 1 - n / 16, n / 64, (2300, 1300), 0)


def inline_file() -> File:
    profile, rng = own_profile(), np.random.default_rng(7)
    steps = rng.integers(-3, 4, profile.grid(90, 70)) * np.array([0, 1, 2, 5, 30, 900])[:, None, None]
    symbols = np.clip(steps.cumsum(1).cumsum(2), -32768, 32767).astype(np.int16)
    return file_of_symbols(symbols, Header(90, 70, INLINE, ADAPTIVE_PRIOR, 2222), SINGLE, profile)


def write_case(name: str, tests: str, file: File, alpha: NDArray[np.uint8] | None = None) -> None:
    expect: dict[str, Any] = {
        "tests": tests,
        "header": dataclasses.asdict(file.header),
        "layout": dataclasses.asdict(file.layout),
    }
    arrays: dict[str, NDArray[Any]] = {}
    if file.header.prior == PALETTE:
        arrays["latents"] = latents_of_file(file)
    else:
        stored = StoredLatents(file)
        decoded = stored.decoded((0, stored.shape[1]), (0, stored.shape[2]))
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
    start = bytes([*body[:3], body[3] | container.CHUNKS_FLAG, *body[4:10]])
    cases = {
        "x_flipped_byte": ("one bit of the payload", data[:40] + bytes([data[40] ^ 1]) + data[41:]),
        "x_truncated": ("the last byte is missing", data[:-1]),
        "x_trailing_byte": ("a byte after the end", data + b"\0"),
        "x_version": ("a later version of the format", sealed(later)),
        "x_required_chunk": ("a required chunk of a later version", sealed(start + b"\x01p" + b"\xf0\x03new")),
        "x_left_over": ("data after the last symbol", sealed(body + b"\x01\x02\x03\x04")),
        "x_short_payload": ("a stream that lacks its start", sealed(body[:10] + body[50:])),
        "x_alignment": (
            "another alignment than the stream has",
            sealed(body[:9] + bytes([body[9] ^ 0x10]) + body[10:]),
        ),
        "x_two_files": ("one file after another", data + data),
        "x_profile": ("a profile of a later version", sealed(body[:4] + b"\xc8" + body[5:])),
        "x_prior": ("a prior of a later version", sealed(body[:5] + b"\xc8" + body[6:])),
    }
    for name, (tests, wrong) in cases.items():
        write(name, wrong, {"tests": tests, "error": "FormatError"})
    forbidden = container.write(File(Header(16, 16, TINY, PALETTE, 0, alignment=1), (zlib.compress(bytes(10244)),)))
    write("x_palette_of_tiny", forbidden, {"tests": "method palette with 40 channels", "error": "FormatError"})
    vast = container.write(File(Header(1 << 24, 1 << 24, TINY, TINY, 2048), (b"",)))
    write("x_vast", vast, {"tests": "more pixels than the limit", "error": "LimitError"})
    write_wrong_tiles()


def write_wrong_tiles() -> None:
    """Write files of several tiles whose parts contradict each other."""
    header, profile = Header(600, 30, TINY, TINY, 2100), shipped_profile(TINY)
    symbols = noise(14, TINY, 600, 30)
    good = file_of_symbols(symbols, header, Layout(2, 1, 4), profile)
    data, (first, second, *rest) = container.write(good), good.segments
    head = data.index(first)
    swapped = dataclasses.replace(good, segments=(second, first, *rest))
    cases = {
        "x_index": ("a length in the index", data[:15] + bytes([data[15] ^ 1]) + data[16:]),
        "x_check": ("a segment that differs from its check", sealed(data[:head] + b"\xff" + data[head + 1 : -4])),
        "x_swapped_tiles": ("one tile's stream in place of another's", container.write(swapped)),
        "x_too_many_tiles": ("tiles of less than 32 latents", container.write(crowded(header))),
        "x_levels": ("levels that the prior has not", container.write(three_levels(good))),
        "x_behind": ("bytes behind the last segment", sealed(data[:-4] + b"\0")),
    }
    for name, (tests, wrong) in cases.items():
        write(name, wrong, {"tests": tests, "error": "FormatError"})


def crowded(header: Header) -> File:
    return File(header, (b"\1",) * 3, Layout(3, 1, 1))


def three_levels(file: File) -> File:
    """Return a file of four levels with the last two put together, as if there were three."""
    *before, third, fourth = (file.segments[n : n + 2] for n in (0, 2, 4, 6))
    together = tuple(a + b for a, b in zip(third, fourth, strict=True))
    return dataclasses.replace(file, segments=(*before[0], *before[1], *together), layout=Layout(2, 1, 3))


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
