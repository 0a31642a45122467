"""The conformance vectors: bytes to what they hold and back, exactly."""

import dataclasses
import hashlib
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.coding.latent_file import decode_latents
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.format.alpha import read_alpha
from sdtrt.engine.format.latent_space import ADAPTIVE_PRIOR, BUNDLED, PALETTE, PRIOR_NAMES
from sdtrt.engine.format.layout import Layout
from sdtrt.engine.format.profile import LatentProfile, parse_profile, resolve_profile

ROOT = Path(__file__).parents[1]
make = runpy.run_path(str(Path(__file__).parent / "vectors" / "make.py"))
FOLDERS = sorted(path.parent for path in (Path(__file__).parent / "vectors").glob("*/expect.json"))
WHOLE = [folder for folder in FOLDERS if not folder.name.startswith("x_")]
CODED = [folder for folder in WHOLE if (folder / "symbols.npy").exists()]
WRONG = [folder for folder in FOLDERS if folder.name.startswith("x_")]


def case(folder: Path) -> tuple[bytes, dict[str, Any]]:
    return (folder / "input.sdt").read_bytes(), json.loads((folder / "expect.json").read_text())


def model_of(expect: dict[str, Any]) -> LatentProfile | None:
    """Return the profile of the model that a file refers to, None if it refers to none."""
    said = expect.get("model")
    return said and parse_profile(bytes.fromhex(said["profile"])).with_prior((ROOT / said["prior"]).read_bytes())


def layout_of(expect: dict[str, Any]) -> Layout:
    fields = dict(expect["layout"])
    residual_step = fields.pop("residual", 0)
    return Layout(**fields, residual_step=residual_step)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_vectors_are_there() -> None:
    assert len(WHOLE) >= 29
    assert len(WRONG) >= 34
    priors = {case(folder)[1]["header"]["prior"] for folder in WHOLE}
    assert priors == {ADAPTIVE_PRIOR, BUNDLED, PALETTE, *PRIOR_NAMES}


@pytest.mark.parametrize("folder", WHOLE, ids=lambda folder: folder.name)
def test_decoding(folder: Path) -> None:
    data, expect = case(folder)
    file = container.read(data)
    assert dataclasses.asdict(file.header) == expect["header"]
    assert file.layout == layout_of(expect)
    if file.header.prior == PALETTE:
        np.testing.assert_array_equal(decode_latents(file), np.load(folder / "latents.npy"), strict=True)
    else:
        stored = LatentReader(file, model_profile=model_of(expect))
        decoded = stored.decode_symbols((0, stored.shape[1]), (0, stored.shape[2]))
        np.testing.assert_array_equal(decoded.symbols, np.load(folder / "symbols.npy"), strict=True)
        assert sha256(decoded.symbols.astype("<i2").tobytes()) == expect["symbols_sha256"]
        assert (decoded.recon_offsets is not None) == (folder / "points.npy").exists()
        if decoded.recon_offsets is not None:
            np.testing.assert_array_equal(decoded.recon_offsets, np.load(folder / "points.npy"), strict=True)
    assert {f"{kind:#04x}": sha256(chunk) for kind, chunk in file.chunks.items()} == expect["chunks_sha256"]
    if "alpha_sha256" in expect:
        assert sha256(read_alpha(file).tobytes()) == expect["alpha_sha256"]
    layers = make["layers_of_file"](file)
    assert layers.keys() == {kind for kind in ("residual", "overlay") if (folder / f"{kind}.npy").exists()}
    for kind, array in layers.items():
        np.testing.assert_array_equal(array, np.load(folder / f"{kind}.npy"), strict=True)
    assert bool(sdtrt.verify(data)) == ("model" in expect)  # whose latents are not checked without it


@pytest.mark.parametrize("folder", CODED, ids=lambda folder: folder.name)
def test_symbols_to_bytes(folder: Path) -> None:
    data, expect = case(folder)
    symbols = np.load(folder / "symbols.npy")
    file = container.read(data)
    profile = resolve_profile(file, model_of(expect))
    header, layout = container.Header(**expect["header"] | {"alignment": 0}), layout_of(expect)
    alone = dataclasses.replace(layout, alpha=False, overlay=False, residual_step=0)
    made = make["file_of_symbols"](symbols, header, alone, profile, chunks=file.chunks)
    # All else is taken over: what one version of WebP's encoder makes of it another may not.
    over = file.segments[len(made.segments) :]
    again = dataclasses.replace(made, segments=(*made.segments, *over), layout=layout)
    assert container.write(again) == data
    assert profile.grid(header.width, header.height) == symbols.shape


@pytest.mark.parametrize("folder", WRONG, ids=lambda folder: folder.name)
def test_what_must_fail(folder: Path, codec: sdtrt.Codec) -> None:
    data, expect = case(folder)
    error = getattr(sdtrt, expect["error"])
    for function in (sdtrt.verify, codec.decode, codec.decode_latents):
        if function != codec.decode_latents or "latents" not in expect:  # what lies over them is no matter of theirs
            with pytest.raises(error):
                function(data)
