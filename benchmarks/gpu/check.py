"""What a section is: a function that yields figures by name, one by one, for a `Check`."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.machine import Gpu


class NotMeasuredError(Exception):
    """Something that a section needs is not there; the message names it."""


class CheckError(Exception):
    """A section ran, and what it found is not as it must be."""


@dataclass(frozen=True, slots=True)
class Check:
    """What sections are told; each has about so many seconds for what it repeats."""

    machine: Gpu
    seconds: float
    decodes: int
    given: str | None  # the bundle that was asked for

    @property
    def bundle(self) -> str | Path:
        """The bundle of SD 1.x's architecture, or whatever was asked for in its place."""
        if self.given is not None:
            return self.given
        if not self.machine.bundle.is_dir():
            raise NotMeasuredError("there is no bundle: the section `export` makes one, `--bundle` names another")
        return self.machine.bundle


Section = Callable[[Check], Iterator[tuple[str, Any]]]


def require(*modules: str) -> None:
    """Raise `NotMeasuredError` with the name of the first module that is not installed."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise NotMeasuredError(f"{name} is not installed")


def require_backend(model: str | Path, backend: str) -> None:
    """Raise `NotMeasuredError` with the reason why a bundle cannot be run by a backend on the GPU, if there is one."""
    from sdtrt.engine.networks import pipeline
    from sdtrt.engine.networks.bundle import find_bundle

    bundle = find_bundle(model)
    if backend == "ort":
        require("onnxruntime")
    candidates = pipeline.BACKENDS_BY_SPEED
    on_gpu = next(candidate for candidate in candidates if (candidate.name, candidate.device) == (backend, "cuda"))
    if reason := on_gpu.unavailable_reason(bundle, 0, "auto"):
        raise NotMeasuredError(reason)
