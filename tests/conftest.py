"""What several tests share: a photo made of numbers, opened models, the command line, kernels for the host."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import environment
import features  # noqa: F401 (turns features off before the package is imported)
import numpy as np
import pytest
from extras import unavailable
from host_kernels import Host, compiled, compiler
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image

import sdtrt
from sdtrt.engine.encoder import with_segments
from sdtrt.engine.format import container, webp_lossless
from sdtrt.engine.format.profile import LatentProfile
from sdtrt.engine.networks.backends import openvino

# Seeded, and without a deadline: a busy machine must not change the verdict.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

Pixels = NDArray[np.uint8]
HOME = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[HOME] = environment.enter()


def pytest_unconfigure(config: pytest.Config) -> None:
    environment.leave(config.stash[HOME])


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return unavailable(path, parent)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return unavailable(module_path, parent)


@pytest.fixture(autouse=True)
def closed_models() -> Iterator[None]:
    """Close the models that `sdtrt.encode` and `sdtrt.decode` keep open, so that no test depends on another."""
    yield
    if "sdtrt.api" in sys.modules:
        sys.modules["sdtrt.api"].shared_codecs.close()


def synthetic_photo(width: int, height: int) -> Pixels:
    """Return RGB pixels, uint8 (height, width, 3): gradients, soft-edged shapes and a little texture."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    planes = np.stack([60 + 90 * x / 768, 80 + 70 * y / 512, 140 - 50 * (x + y) / 1280], axis=2)
    for _ in range(8):
        cy, cx, radius = rng.uniform(0, height + 1), rng.uniform(0, width + 1), rng.uniform(20, 120)
        inside = 1 / (1 + np.exp((np.hypot(y - cy, x - cx) - radius) / 1.5))
        planes += inside[:, :, None] * rng.uniform(-60, 60, 3)
    planes += 4 * np.sin(x / 5)[:, :, None] * np.sin(y / 7)[:, :, None] + rng.normal(0, 1, (height, width, 1))
    return np.clip(np.rint(planes), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int], Pixels]:
    return synthetic_photo


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without OpenVINO."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    openvino._started_core.cache_clear()
    yield
    openvino._started_core.cache_clear()


@pytest.fixture(params=[False, True], ids=["without bfloat16", "with bfloat16"])
def bfloat16(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor has bfloat16, to all that asks for it; a test runs once for each."""
    flags = tmp_path / "cpuinfo"
    flags.write_text(f"flags : fpu avx2 {'avx512_bf16 amx_bf16' if request.param else ''}\n")
    monkeypatch.setattr(openvino, "CPU_FEATURES", flags)
    types = ["BF16", "FP32"] if request.param else ["FP32"]
    monkeypatch.setattr(openvino, "capabilities", lambda: openvino.import_openvino() and types)
    return request.param


@pytest.fixture(scope="session")
def codec() -> Iterator[sdtrt.Codec]:
    with sdtrt.Codec.open(threads=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def real_files(codec: sdtrt.Codec) -> dict[str, bytes]:
    """Four small encoded files: colour, grey, with alpha, with alpha, overlay and residual."""
    pixels = synthetic_photo(45, 37)
    alpha = np.add.outer(np.arange(37), 3 * np.arange(45)).astype(np.uint8)
    layered = container.read(codec.encode(np.dstack([pixels, alpha]), quality=95))
    assert layered.layout.residual_step
    drawn = np.zeros((37, 45, 4), np.uint8)
    drawn[::7] = drawn[:, ::9] = 20, 200, 90, 255
    return {
        "colour": codec.encode(pixels, quality=30),
        "grey": codec.encode(np.ascontiguousarray(pixels[:, :, 1]), quality=40),
        "alpha": codec.encode(np.dstack([pixels, alpha]), quality=20),
        "layers": container.write(with_segments(layered, "overlay", [webp_lossless.encode_rgba(drawn)], overlay=True)),
    }


@pytest.fixture(scope="session")
def seal() -> Callable[[bytes], bytes]:
    """Return a file's bytes with the checksum that fits them: `seal(file[:-4])`."""
    return lambda body: body + struct.pack("<I", zlib.crc32(body))


@pytest.fixture(scope="session")
def inline_profile() -> Callable[..., LatentProfile]:
    def make(channels: int = 4, downscale: int = 8) -> LatentProfile:
        n = np.arange(channels, dtype=np.float32)
        return LatentProfile(
            latent_space="x-0123abcd",
            channels=channels,
            downscale=downscale,
            mean=n / 8,
            std=1 + n / 4,
            step_weight=2 - n / 512,
            recon_offset=np.full(channels, 0.0625, np.float32),
            step_codes=(2300, 1300),
            prior=0,
        )

    return make


Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="session")
def run_cli() -> Run:
    """Run the command line in a process of its own; a traceback fails the test."""

    def run(*arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "sdtrt", *map(str, arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, timeout=environment.HANG, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert b": unexpected " not in done.stderr, done.stderr.decode()
        return done

    return run


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a few pictures, for calibration."""
    folder = tmp_path_factory.mktemp("photos")
    for width, height in ((96, 64), (64, 128), (80, 80)):
        Image.fromarray(synthetic_photo(width, height)).save(folder / f"{width}x{height}.png")
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The folder of a built viewer, or what looks like it, beside a file that is no part of it."""
    folder = tmp_path / "site"
    (folder / "src").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    for name in ("src/client.js", "sw.js", "files.js", "runtime.wasm"):
        (folder / name).write_text("//")
    (tmp_path / "secret").write_text("secret")
    return folder


@pytest.fixture(scope="session")
def host() -> Host:
    return compiled(compiler() or pytest.skip("no C++ compiler"))
