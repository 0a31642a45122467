"""Write the conformance vectors beside this file: a change of the format, to be reviewed as one.

A case is a folder with `input.sdt`, what it decodes to, and `expect.json`. Most decode to `symbols.npy` (int16), with
some priors also to `points.npy` (int32), those of method palette to `latents.npy` (float32). What lies over a picture
is in `residual.npy`, int16 (H, W, 3), and `overlay.npy`, uint8 (H, W, 4). Names that start with `x_` must fail, with
the error that `expect.json` names: `make_broken.py` writes them. Symbols are seeded noise: no encoder has a say.
"""

import dataclasses
import hashlib
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.latent_file import decode_latents, encode_palette_file
from sdtrt.engine.coding.latent_reader import LatentReader, inner_edges, load_prior, num_levels
from sdtrt.engine.coding.priors.adaptive_fit import fit_adaptive
from sdtrt.engine.coding.priors.passes import InnerEdges
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.streams import stream_codec
from sdtrt.engine.format import alpha, container, webp_lossless
from sdtrt.engine.format.container import File, Header
from sdtrt.engine.format.latent_space import ADAPTIVE_PRIOR, BUNDLED, INLINE, PALETTE, PRIOR_NAMES
from sdtrt.engine.format.layout import SINGLE, Layout, tile_spans
from sdtrt.engine.format.metadata import Metadata, to_chunks
from sdtrt.engine.format.profile import LatentProfile, pack_profile, serialize_profile, shipped_profile

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PRIORS = ROOT / "engine" / "data" / "priors"
layered = runpy.run_path(str(FOLDER / "layer_streams.py"))
drawing, with_overlay, with_residual = (layered[name] for name in ("drawing", "with_overlay", "with_residual"))
layers_of_file, tiles_of = layered["layers_of_file"], layered["tiles_of"]
TINY, SD1 = 1, 2  # profiles, and the priors that belong to them
Symbols = NDArray[np.int16]


def main() -> None:
    odd = tiny_file(noise(1, TINY, 61, 43), 61, 43, 1900)
    write_case("tiny_odd_size", "the shipped profile and prior at a size that is no multiple of 8", odd)
    write_case("tiny_1x1", "the smallest picture", tiny_file(noise(2, TINY, 1, 1), 1, 1, 4095))
    write_case("tiny_all_zero", "symbols that cost next to nothing", tiny_file(0 * noise(3, TINY, 64, 64), 64, 64, 0))
    coarse = noise(13, TINY, 200, 136)
    coarse[shipped_prior(PRIOR_NAMES[TINY]).order(40)[8:]] = 0
    write_case("tiny_few_passes", "a stream that does not hold all passes", tiny_file(coarse, 200, 136, 2600))
    write_case("tiny_grey", "the grey flag", tiny_file(noise(4, TINY, 24, 40), 24, 40, 2048, grey=True))
    escapes = noise(5, TINY, 33, 17)
    escapes.flat[::7] = np.random.default_rng(5).integers(-32768, 32768, escapes.flat[::7].size)
    escapes.flat[:2] = -32768, 32767
    write_case("tiny_escapes", "symbols over all 16 bits", tiny_file(escapes, 33, 17, 1500))
    plane = (np.add.outer(np.arange(20) ** 2, 5 * np.arange(30)) % 256).astype(np.uint8)
    chunks = {**to_chunks(Metadata(text=(("Comment", "made for a test"),))), 0x70: b"of a later version"}
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
    write_case("model_prior", "profile and prior of a model", bundled_file(), own=bundled_profile())
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
    write_layers()
    latents = smooth(10, SD1, 70, 45)
    write_case("sd1_palette", "the method that came first", encode_palette_file(latents, 70, 45, shipped_profile(SD1)))


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
    assert layout.levels in {1, num_levels(load_prior(header.prior, profile))}
    _, height, width = symbols.shape
    streams, alignment = [], 0
    for rows in tile_spans(height, layout.rows):
        for columns in tile_spans(width, layout.columns):
            inner = inner_edges(rows, columns, height, width)
            part = symbols[:, slice(*rows), slice(*columns)]
            levels, short = segments_of(part, header, layout.levels, inner, profile)
            alignment = alignment if streams else short
            streams.append(levels)
    segments = tuple(stream[level] for level in range(layout.levels) for stream in streams)
    own = serialize_profile(profile)
    return File(dataclasses.replace(header, alignment=alignment), segments, layout, own, **parts)


def segments_of(
    symbols: Symbols, header: Header, levels: int, inner: InnerEdges, profile: LatentProfile
) -> tuple[list[bytes], int]:
    """Return a tile's levels, and by how many bytes the first word of its stream is short."""
    parameters = b""
    prior = load_prior(header.prior, profile)
    if prior is None:
        prior = fit_adaptive(symbols, inner)
        parameters = prior.parameters.tobytes()
    stream = stream_codec.encode_stream(symbols, prior, header.step_code, inner)
    first, *rest = [stream.data] if levels == 1 else stream.levels()
    return [parameters + first, *rest], -len(first) % 4


def write_layers() -> None:
    """Write cases of what lies over the networks' picture: of all sizes of symbols, in some tiles and not in others."""
    write_case("residual", "a residual at a size that is no multiple of 8", with_residual(plain(61, 43), 100, 15))
    write_case("residual_grey", "a residual of grey", with_residual(plain(40, 24, grey=True), 333, 16))
    write_case("residual_1x1", "the smallest residual", with_residual(plain(1, 1), 1, 17))
    write_case("residual_coarse", "values beyond their limits", with_residual(plain(90, 33), 65535, 18))
    write_case("overlay", "an overlay", with_overlay(plain(61, 43), drawing(61, 43)))
    covered = np.dstack([drawing(30, 20)[:, :, :3], np.full((20, 30), webp_lossless.OPAQUE, np.uint8)])
    write_case("overlay_covers", "an overlay without alpha, over all", with_overlay(plain(30, 20), covered))
    width, height = 1040, 21
    symbols, header = noise(20, TINY, width, height), Header(width, height, TINY, TINY, 2200)
    file = file_of_symbols(symbols, header, Layout(4, 1, 4), shipped_profile(TINY))
    overlay = drawing(width, height)
    overlay[:, 256:512], overlay[:, 768:, 3] = 0, webp_lossless.OPAQUE
    plane = (np.add.outer(np.arange(height), np.arange(width) // 5) % 256).astype(np.uint8)
    file = with_alpha(with_residual(with_overlay(file, overlay), 60, 21, missing=2), plane)
    write_case(
        "layers_tiles_alpha", "residual, overlay and alpha; of two tiles one of them is empty", file, alpha=plane
    )


def plain(width: int, height: int, grey: bool = False) -> File:
    return tiny_file(noise(width, TINY, width, height), width, height, 2100, grey)


def with_alpha(file: File, plane: NDArray[np.uint8]) -> File:
    """Return a file with an alpha plane, uint8 (H, W)."""
    segments = [alpha.encode_alpha(plane[slice(*rows), slice(*columns)]) for rows, columns in tiles_of(file)]
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
    return LatentProfile(
        latent_space="x-0badcafe",
        channels=6,
        downscale=8,
        mean=n / 4,
        std=1 + n / 8,
        step_weight=1 - n / 16,
        recon_offset=n / 64,
        step_codes=(2300, 1300),
        prior=0,
    )


def bundled_profile() -> LatentProfile:
    """Return a profile of a model whose prior is the same as the shipped one of `sd1`."""
    shipped, path = shipped_profile(SD1), PRIORS / f"{PRIOR_NAMES[SD1]}.npz"
    renamed = dataclasses.replace(shipped, latent_space="x-0badcafe", std=shipped.std * 2, preview=None)
    return renamed.with_prior(path.read_bytes())


def bundled_file() -> File:
    profile = bundled_profile()
    symbols = np.rint(smooth(14, SD1, 75, 50) / 2 ** ((1850 - 2048) / 256)).astype(np.int16)
    return file_of_symbols(symbols, Header(75, 50, BUNDLED, BUNDLED, 1850), SINGLE, profile)


def inline_file() -> File:
    profile, rng = own_profile(), np.random.default_rng(7)
    steps = rng.integers(-3, 4, profile.grid(90, 70)) * np.array([0, 1, 2, 5, 30, 900])[:, None, None]
    symbols = np.clip(steps.cumsum(1).cumsum(2), -32768, 32767).astype(np.int16)
    return file_of_symbols(symbols, Header(90, 70, INLINE, ADAPTIVE_PRIOR, 2222), SINGLE, profile)


def write_case(
    name: str,
    tests: str,
    file: File,
    alpha: NDArray[np.uint8] | None = None,
    own: LatentProfile | None = None,
) -> None:
    expect: dict[str, Any] = {
        "tests": tests,
        "header": dataclasses.asdict(file.header),
        "layout": layout_of(file),
    }
    arrays: dict[str, NDArray[Any]] = layers_of_file(file)
    if file.header.prior == PALETTE:
        arrays["latents"] = decode_latents(file)
    else:
        stored = LatentReader(file, model_profile=own)
        decoded = stored.decode_symbols((0, stored.shape[1]), (0, stored.shape[2]))
        arrays["symbols"] = decoded.symbols
        expect["symbols_sha256"] = sha256(decoded.symbols.astype("<i2").tobytes())
        if decoded.recon_offsets is not None:
            arrays["points"] = decoded.recon_offsets
    expect["chunks_sha256"] = {f"{kind:#04x}": sha256(data) for kind, data in sorted(file.chunks.items())}
    if own is not None:
        prior = PRIORS.relative_to(ROOT) / f"{PRIOR_NAMES[SD1]}.npz"
        expect["model"] = {"profile": pack_profile(own).hex(), "prior": prior.as_posix()}
    if alpha is not None:
        expect["alpha_sha256"] = sha256(alpha.tobytes())
    write(name, container.write(file), expect)
    for kind, array in arrays.items():
        np.save(FOLDER / name / f"{kind}.npy", array)


def layout_of(file: File) -> dict[str, Any]:
    """Return a file's layout; layers are not mentioned where there are none."""
    fields = dataclasses.asdict(file.layout)
    fields["residual"] = fields.pop("residual_step")
    return {name: value for name, value in fields.items() if value or name not in {"overlay", "residual"}}


def write(name: str, data: bytes, expect: dict[str, Any]) -> None:
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    (folder / "input.sdt").write_bytes(data)
    (folder / "expect.json").write_text(json.dumps(expect, indent=2) + "\n")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
