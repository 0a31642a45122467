"""Tiles in several threads, and decoders in processes that were forked meanwhile."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from sdtrt.engine.coding import latent_file
from sdtrt.engine.format.profile import shipped_profile
from sdtrt.kernels import core
from sdtrt.process import threads

SIZE = 2400  # pixels: latents of 300x300, nine tiles
TIMEOUT = 60  # seconds until a child counts as hanging


@pytest.fixture(scope="module")
def latents() -> NDArray[np.float32]:
    profile = shipped_profile(1)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (profile.channels, SIZE // 8, SIZE // 8)).astype(np.float32)
    return noise * profile.std[:, None, None] + profile.mean[:, None, None]


def test_tiles_in_threads_give_the_same_file(latents: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    def encoded() -> tuple[list[bytes], NDArray[np.int16]]:
        file = latent_file.encode_latents_to_file(latents, SIZE, SIZE, shipped_profile(1), 2300)
        return file.segments, latent_file.decode_symbols(file)

    monkeypatch.setattr(threads, "available_cpus", lambda: 3)
    segments, symbols = encoded()
    assert len(segments) > 9
    monkeypatch.setattr(threads, "available_cpus", lambda: 1)
    same_segments, same_symbols = encoded()
    assert same_segments == segments
    np.testing.assert_array_equal(same_symbols, symbols)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.skipif(core.compiled() is None, reason="no compiled core: BLAS hangs in such a child")
def test_fork_while_other_threads_decode(latents: NDArray[np.float32]) -> None:
    file = latent_file.encode_latents_to_file(latents, SIZE, SIZE, shipped_profile(1), 2000)
    expected = latent_file.decode_symbols(file).sum(dtype=np.int64)
    stop = threading.Event()

    def decode_again_and_again() -> None:
        while not stop.is_set():
            latent_file.decode_symbols(file)

    workers = [threading.Thread(target=decode_again_and_again) for _ in range(2)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(5):
            time.sleep(0.02)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads, which is what is tested
                child = os.fork()
            if not child:
                os._exit(0 if latent_file.decode_symbols(file).sum(dtype=np.int64) == expected else 1)
            assert exit_code(child) == 0
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def exit_code(child: int) -> int:
    """Return the exit code of a child; it is killed, and the test fails, if it does not end."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"the child hangs for {TIMEOUT} s")
