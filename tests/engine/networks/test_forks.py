"""Codecs in a process that was forked after its parent had used them."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable

import numpy as np
import pytest

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.image import ImageData
from sdtrt.errors import DeviceError

TIMEOUT = 60  # seconds until a child is killed, since it hangs
GRADIENT = EncodeOptions(effort=7)  # RDOQ by the decoder's gradient

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


# A program that forks after use. Its child runs the arguments, and ends as Python programs do.
PROGRAM = """
import gc, os, signal, sys
import numpy as np
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.image import ImageData
codec = EngineCodec("tiny", backend="ort", threads=2)
data = codec.encode(ImageData(np.zeros((96, 80, 3), np.uint8)), EncodeOptions())
codec.decode(data)
child = os.fork()
if not child:
    signal.alarm(60)
    for action in sys.argv[1:]:
        exec(action)
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(
    "actions", [["pass"], ["codec.decode(data)"], ["del codec", "gc.collect()"], ["codec.decode(data)", "del codec"]]
)
def test_forked_process_that_inherits_networks_ends(actions: list[str]) -> None:
    """Networks of the parent are never deleted, since they would wait for their threads."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM, *actions], check=False, timeout=120)
    assert done.returncode == 0


def succeeds_in_child(check: Callable[[], bool]) -> bool:
    """Return the result of `check` in a forked process; False if it raises or hangs."""
    child = os.fork()
    if not child:
        signal.alarm(TIMEOUT)
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_codec_by_onnx_runtime_goes_on_in_a_forked_process(photo: Callable[[int, int], np.ndarray]) -> None:
    codec = EngineCodec("tiny", backend="ort", threads=2)
    image = ImageData(photo(96, 80))
    data = codec.encode(image, GRADIENT)
    pixels = codec.decode(data).pixels.tobytes()
    assert [*codec.decode_batch([data] * 3)]

    def check() -> bool:
        batch = [decoded.pixels.tobytes() for decoded in codec.decode_batch([data] * 3)]
        return codec.encode(image, GRADIENT) == data and [codec.decode(data).pixels.tobytes(), *batch] == [pixels] * 4

    assert succeeds_in_child(check)
    assert check()


def test_codec_by_openvino_is_refused_in_a_forked_process(photo: Callable[[int, int], np.ndarray]) -> None:
    pytest.importorskip("openvino")
    codec = EngineCodec("tiny", backend="openvino", threads=2)
    data = codec.encode(ImageData(photo(96, 80)), EncodeOptions())
    codec.decode(data)

    def check() -> bool:
        with pytest.raises(DeviceError, match=r"does not run in a process that was forked.* spawn"):
            codec.decode(data)
        with pytest.raises(DeviceError, match="does not run in a process that was forked"):
            EngineCodec("tiny", backend="openvino", device="cpu")
        other = EngineCodec("tiny", device="cpu")
        return other.pipeline.name.startswith("ort") and other.decode(data).pixels.shape == (80, 96, 3)

    assert succeeds_in_child(check)


def test_openvino_starts_in_a_forked_process_if_its_parent_has_not_used_it() -> None:
    pytest.importorskip("openvino")
    program = """
import os, signal, sys
from sdtrt.engine.networks.backends import openvino
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if openvino.capabilities() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False, timeout=120)
    assert done.returncode == 0
