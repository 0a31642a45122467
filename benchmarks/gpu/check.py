"""A section is a function that takes a `Check` and yields pairs of a name and figures."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.machine import Gpu


class NotMeasuredError(Exception):
    """Something that a section needs is missing; the message names it."""


class CheckError(Exception):
    """A section ran, and its result is wrong."""


@dataclass(frozen=True, slots=True)
class Check:
    """The options of all sections; `seconds` is the time of a section for repeated calls."""

    machine: Gpu
    seconds: float
    decodes: int
    given_bundle: str | None  # name or folder, from the command line

    @property
    def bundle(self) -> str | Path:
        """The bundle of SD 1.x's architecture, or the one given on the command line."""
        if self.given_bundle is not None:
            return self.given_bundle
        if not self.machine.bundle.is_dir():
            raise NotMeasuredError("no bundle: run the section `export`, or name one with `--bundle`")
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
