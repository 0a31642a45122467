"""Write the conformance vectors that must be refused: see `make.py`."""

import dataclasses
import io
import runpy
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.priors.tables import bins_of
from sdtrt.engine.coding.streams.ans import AnsEncoder
from sdtrt.engine.coding.streams.words import WORD
from sdtrt.engine.format import container
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.latent_space import PALETTE, PRIOR_NAMES
from sdtrt.engine.format.layout import Layout
from sdtrt.engine.format.profile import shipped_profile
from sdtrt.engine.layers.residual_contexts import residual_tables

make = runpy.run_path(str(Path(__file__).with_name("make.py")))
file_of_symbols, noise, write = make["file_of_symbols"], make["noise"], make["write"]
drawing, plain, with_overlay, with_residual = (make[n] for n in ("drawing", "plain", "with_overlay", "with_residual"))
TINY = 1


def main() -> None:
    write_wrong_counts()
    write_failures(container.write(make["tiny_file"](noise(1, TINY, 61, 43), 61, 43, 1900)))
    write_wrong_tiles()
    write_wrong_layers()


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


def write_wrong_counts() -> None:
    """Write files whose streams tell of passes that they cannot hold."""
    prior, header = shipped_prior(PRIOR_NAMES[TINY]), Header(61, 43, TINY, TINY, 3000)
    shape = shipped_profile(TINY).grid(header.width, header.height)
    context = prior.context(prior.passes(shape[0])[0], prior.planes(shape, header.step_code), 0)
    too_many, of_zeros = AnsEncoder(prior.tables), AnsEncoder(prior.tables)
    too_many.write_number(len(prior.passes(shape[0])) + 1, 32)
    of_zeros.write_bins(bins_of(-context.base(), context.low_bits()).ravel(), context.table_rows().ravel())
    of_zeros.write_number(1, 32)
    cases = {"x_passes": ("more passes than there are", too_many), "x_zeros": ("a last pass of zeros", of_zeros)}
    for name, (tests, writer) in cases.items():
        stream = writer.stream()
        file = File(dataclasses.replace(header, alignment=-len(stream) % WORD), (stream,))
        write(name, container.write(file), {"tests": tests, "error": "FormatError"})


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
        "x_level_early": ("a level that ends before its last pass", container.write(moved(good, -WORD))),
        "x_level_late": ("a level that ends behind its last pass", container.write(moved(good, WORD))),
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


def moved(file: File, nbytes: int) -> File:
    """Return a file of two tiles, the first one's first level so many bytes longer, its second as many shorter."""
    first, second = file.segment(0, 0), file.segment(1, 0)
    both, end = first + second, len(first) + nbytes
    segments = (both[:end], file.segment(0, 1), both[end:], *file.segments[3:])
    return dataclasses.replace(file, segments=segments)


def write_wrong_layers() -> None:
    """Write files whose residuals and overlays are not what the text allows."""
    width, height = 30, 20
    residual, overlay = (
        with_residual(plain(width, height), 1000, 31),
        with_overlay(plain(width, height), drawing(30, 20)),
    )
    stream = residual.segments[1]
    half = np.full((height, width, 4), 128, np.uint8)
    extents = {
        "x_residual_extent": ("a residual's extent above 8", stream_of_extent(9)),
        "x_residual_left_over": ("data after a residual's last symbol", stream + b"\x01\x02\x03\x04"),
        "x_residual_short": ("a residual that lacks its start", stream[8:]),
        "x_residual_cut": ("a residual that lacks its end", stream[: len(stream) // 2]),
        "x_residual_zero_byte": ("a zero byte at the start of a residual", b"\0" + stream),
        "x_residual_zero_word": ("a zero word at the start of a residual", bytes(4) + stream),
    }
    overlays = {
        "x_overlay_size": ("an overlay of another size", webp(drawing(31, 20))),
        "x_overlay_half": ("an overlay with alpha 128", webp(half)),
        "x_overlay_lossy": ("a lossy overlay", webp(half[:, :, :3], lossless=False)),
        "x_overlay_png": ("an overlay that is no WebP file", webp(half, kind="PNG")),
        "x_overlay_extended": ("an overlay with metadata", webp(drawing(30, 20), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")),
        "x_overlay_behind": ("bytes behind an overlay", webp(drawing(30, 20)) + b"\0\0"),
        "x_overlay_chunk": ("a chunk behind an overlay's", with_chunk(webp(drawing(30, 20)))),
        "x_overlay_cut": ("an overlay that is cut short", cut_short(webp(drawing(30, 20)))),
    }
    for file, cases in ((residual, extents), (overlay, overlays)):
        for name, (tests, segment) in cases.items():
            wrong = dataclasses.replace(file, segments=(file.segments[0], segment))
            write(name, container.write(wrong), {"tests": tests, "error": "FormatError", "latents": "whole"})
    write_damaged_last_tiles()
    heads = {
        "x_residual_step": ("a residual of step 0", reindexed(residual, b"\x21\0\0")),
        "x_kinds_6": ("a kind of segments of a later version", reindexed(residual, b"\x61\xe8\x03")),
        "x_kinds_7": ("a kind of segments of a later version", reindexed(residual, b"\xa1\xe8\x03")),
    }
    for name, (tests, wrong) in heads.items():
        write(name, wrong, {"tests": tests, "error": "FormatError"})


def write_damaged_last_tiles() -> None:
    """Write files of two tiles whose first layer is whole and whose last one is cut short."""
    width, height = 600, 30
    tiles = file_of_symbols(
        noise(22, TINY, width, height), Header(width, height, TINY, TINY, 2200), Layout(2, 1, 4), shipped_profile(TINY)
    )
    cases = {"residual": with_residual(tiles, 60, 23), "overlay": with_overlay(tiles, drawing(width, height))}
    for kind, file in cases.items():
        *others, last = file.segments
        wrong = dataclasses.replace(file, segments=(*others, last[: len(last) // 2]))
        expect = {"tests": f"the last of two tiles' {kind} is cut", "error": "FormatError", "latents": "whole"}
        write(f"x_{kind}_last_tile", container.write(wrong), expect)


def reindexed(file: File, kinds: bytes) -> bytes:
    """Return a file of two segments with other kinds, and another step of the residual, in its index."""
    data = container.write(file)
    start = data.index(file.segments[0])
    at = data.index(b"\x21\xe8\x03")
    head = data[:at] + kinds + data[at + 3 : start - 4]
    return sealed(sealed(head) + data[start:-4])


def stream_of_extent(extent: int) -> bytes:
    """Return a residual of which the last entry read is an extent, out of range, of the first block."""
    writer = AnsEncoder(residual_tables().tables)
    writer.write_bins(np.array([extent], np.int32), np.array([0], np.int32))
    return writer.stream()


def webp(pixels: NDArray[np.uint8], kind: str = "WEBP", **how: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"lossless": True, "exact": True} | how))
    return stream.getvalue()


def with_chunk(data: bytes) -> bytes:
    """Return a WebP file with a chunk of metadata behind its only one."""
    return b"RIFF" + struct.pack("<I", len(data) + 4) + data[8:] + b"EXIF" + struct.pack("<I", 4) + b"MM\0*"


def cut_short(data: bytes) -> bytes:
    """Return a WebP file whose chunk is shorter, but not than it says."""
    chunk = data[20 : len(data) // 2 * 2 - 40]
    return b"RIFF" + struct.pack("<I", len(chunk) + 12) + b"WEBPVP8L" + struct.pack("<I", len(chunk)) + chunk


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


if __name__ == "__main__":
    main()
