"""The measured device, a GPU or the emulated device of the tests, and the sizes of its workloads."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gpu import ROOT
from sdtrt.kernels.device import DeviceArray, handle_of

EMULATION = ROOT / "tests" / "emulation"


class Gpu:
    """GPU 0 of this machine."""

    rehearsal = False
    sides: tuple[int, ...] = (512, 1024)  # of images, in pixels
    batches: tuple[int, ...] = (1, 8)
    runs = 200
    compared: tuple[tuple[int, int], ...] = ((64, 64), (129, 70), (512, 512), (1700, 300))  # width, height
    large = (64, 4, 512, 512)  # shape of the latents for bandwidth, much larger than the caches
    widths: tuple[int, ...] = (128, 256, 512, 512)  # of the levels of SD 1.x's autoencoder
    layers = 2
    probe = (256, 192)  # width and height of the image for the check of a bundle
    # Differences from the recipe.
    training: Mapping[str, int] = MappingProxyType({"iterations": 200, "batch": 32, "crop": 256})
    torch_device = "cuda"
    compiler = "inductor"  # of torch.compile
    provider, memory = "CUDAExecutionProvider", "cuda"  # of ONNX Runtime
    has_cuda_operators = True
    pytest_options: tuple[str, ...] = ()
    path: tuple[Path, ...] = (ROOT,)  # added to Python's path

    def __init__(self, bundle: Path) -> None:
        """`bundle` is the folder for the bundle of SD 1.x's architecture."""
        self.bundle = bundle

    @staticmethod
    def name() -> str:
        """Return name, architecture and driver; `DeviceError` without a usable GPU."""
        from sdtrt.engine.networks.backends.gpu import description

        return description()

    def set_current(self) -> None:
        """Make this device the one that sdtrt uses in this process."""

    def tensor(self, array: DeviceArray) -> Any:
        """Return a tensor that shares the memory of a device array."""
        import torch

        return torch.as_tensor(array, device=self.torch_device)

    def queue(self, work: Callable[[], None], stream: Any) -> None:
        """Call `work`, which queues PyTorch's operations, with `stream` as the current stream."""
        import torch

        with torch.cuda.stream(torch.cuda.ExternalStream(handle_of(stream))):
            work()

    def memory_used(self) -> int:
        from cuda.bindings import runtime

        error, free, total = runtime.cudaMemGetInfo()
        if error != runtime.cudaError_t.cudaSuccess:
            raise RuntimeError(f"cudaMemGetInfo failed: {error}")
        return int(total - free)


class Emulated(Gpu):
    """The emulated device of the tests, for rehearsals with small workloads; torch runs on the CPU."""

    rehearsal = True
    sides, batches, runs = (64,), (2,), 3
    compared = ((64, 64), (129, 70))
    large = (2, 4, 16, 16)
    widths, layers = (32, 32, 32, 32), 0
    probe = (64, 48)
    training = MappingProxyType({"iterations": 2, "batch": 1, "crop": 64})
    torch_device, compiler = "cpu", "eager"
    provider, memory = "CPUExecutionProvider", "cpu"
    has_cuda_operators = False
    pytest_options = ("-p", "emulated_gpu")
    path = (ROOT, EMULATION)

    @staticmethod
    def name() -> str:
        return "emulated"

    def set_current(self) -> None:
        sys.path.append(str(EMULATION))
        import emulated

        emulated.install()

    def tensor(self, array: DeviceArray) -> Any:
        import torch

        return torch.from_numpy(array.owner)

    def queue(self, work: Callable[[], None], stream: Any) -> None:
        stream.enqueue(work)

    def memory_used(self) -> int:
        """Return the memory of this process, which includes that of the emulated device."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
