"""A coverage-guided attack on all that reads `.sdt` files: container, metadata, alpha, priors, entropy decoder.

    python tests/fuzz/fuzz_files.py [CORPUS...] [-max_total_time=SECONDS]

An input is a file without its checksum, which is put right here: else nothing would get past it. Whatever happens must
be a `FormatError` or `LimitError`, and must not take long. `make fuzz` runs this on a copy of the conformance vectors
and of `corpus/`, where inputs that found new code are kept.
"""

import contextlib
import struct
import sys
import zlib

import atheris

with atheris.instrument_imports(include=["sdtrt"]):
    import sdtrt
    from sdtrt.engine.format import container

LIMITS = sdtrt.Limits(max_pixels=1 << 14, max_payload_nbytes=1 << 16, max_chunk_nbytes=1 << 16)


def test_one_input(body: bytes) -> None:
    data = body + struct.pack("<I", zlib.crc32(body))
    try:
        file = container.read(data, LIMITS)
    except (sdtrt.FormatError, sdtrt.LimitError):
        return
    if container.write(file) != data:
        raise AssertionError("a file that was read is not written as it was")
    for function in (sdtrt.info, sdtrt.verify):
        with contextlib.suppress(sdtrt.FormatError, sdtrt.LimitError):
            function(data, limits=LIMITS)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
