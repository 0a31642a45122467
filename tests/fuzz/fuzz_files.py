"""A coverage-guided attack on all that reads `.sdt` files: container, index, metadata, layers, priors, entropy decoder.

    python tests/fuzz/fuzz_files.py [CORPUS...] [-max_total_time=SECONDS]
    python tests/fuzz/fuzz_files.py --seeds FOLDER

All checksums are taken to be 0 here: else nothing would get past them. Whatever happens must be a `FormatError` or
`LimitError`, or a `BundleError` if the latents need the prior of another model, and must not take long.
`make fuzz` runs this on the conformance vectors, which `--seeds` writes without their checksums. Atheris takes some
14 kB more at each execution: long attacks are made of several, of 60,000 (`-runs`) or so, on one corpus.
"""

import contextlib
import io
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["sdtrt"]):
    import numpy as np

    import sdtrt
    from sdtrt.engine.coding.latent_reader import LatentReader
    from sdtrt.engine.format import container, index
    from sdtrt.engine.format.alpha import read_alpha
    from sdtrt.engine.layers.layer_reader import LayerReader
    from sdtrt.engine.layers.preview import decode_preview

LIMITS = sdtrt.Limits(max_pixels=1 << 14, max_payload_nbytes=1 << 16, max_chunk_nbytes=1 << 16)
DAMAGE = (sdtrt.FormatError, sdtrt.LimitError, sdtrt.BundleError)
VECTORS = Path(__file__).parents[1] / "vectors"


def test_one_input(body: bytes) -> None:
    data = body + bytes(4)
    with contextlib.suppress(*DAMAGE):
        salvaged = container.salvage(data, LIMITS)
        stored = LatentReader(salvaged.file, LIMITS, salvaged.intact_segments)
        stored.read()
        stored.missing_report()
        read_alpha(salvaged.file, intact_segments=salvaged.intact_segments)
    with contextlib.suppress(*DAMAGE):
        put_layers(container.salvage(data, LIMITS))
    with contextlib.suppress(*DAMAGE):
        file = container.read_from(io.BytesIO(data), LIMITS)
        decode_preview(file, LatentReader(file, LIMITS), 8)
    try:
        file = container.read(data, LIMITS)
    except DAMAGE:
        return
    if container.write(file) != data:
        raise AssertionError("a file that was read is not written as it was")
    for function in (sdtrt.info, sdtrt.verify):
        with contextlib.suppress(*DAMAGE):
            function(data, limits=LIMITS)


def put_layers(salvaged: container.SalvagedFile) -> None:
    """Put what there is over a grey picture, in one go and in halves, and see that it is the same."""
    header, layers = salvaged.file.header, LayerReader(salvaged.file, salvaged.intact_segments)
    layers.missing_report()
    layers.verify()
    grey = np.full((header.height, header.width, 3), 128, np.uint8)
    whole, middle = layers.apply(grey.copy()), header.height // 2
    halves = [layers.apply(grey[slice(*rows)].copy(), rows) for rows in ((0, middle), (middle, header.height))]
    if not np.array_equal(np.concatenate(halves), whole):
        raise AssertionError("layers in parts are not those of the whole")


def forget_checksums() -> None:
    """Let all checksums be 0, of what is read and of what is written."""
    nothing = SimpleNamespace(crc32=lambda data: 0)
    container.zlib, index.zlib, index.segment_crc = nothing, nothing, lambda segment: 0
    container.segment_crc = index.segment_crc


def write_seeds(folder: Path) -> None:
    files = {}
    for path in VECTORS.glob("*/input.sdt"):
        with contextlib.suppress(*DAMAGE):
            files[path.parent.name] = container.read(path.read_bytes())
    forget_checksums()
    for name, file in files.items():
        (folder / name).write_bytes(container.write(file)[:-4])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--seeds"]:
        write_seeds(Path(sys.argv[2]))
    else:
        forget_checksums()
        atheris.Setup(sys.argv, test_one_input)
        atheris.Fuzz()
