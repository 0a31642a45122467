"""The results of a check in a file that is whole at any time, so that a check can be broken off and gone on with."""

import json
import os
import traceback
from pathlib import Path
from typing import Any

from harness import provenance

from gpu import ROOT
from gpu.check import NotMeasuredError
from sdtrt.process.text import json_text

PACKAGES = (
    *("sdtrt", "numpy", "pillow", "constriction", "onnxruntime", "onnxruntime-gpu", "onnx", "torch", "triton"),
    *("cuda-core", "cuda-bindings", "cupy-cuda12x", "cupy-cuda13x", "tensorrt", "tensorrt-lean", "tensorrt-rtx"),
)
LINES = 6  # of a traceback


class Record:
    """Sections by name, each with `figures`, `seconds` once it has ended, and what stood in its way, if anything."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document
        self.sections: dict[str, dict[str, Any]] = document["sections"]

    @classmethod
    def read(cls, path: Path) -> "Record":
        return cls(path, json.loads(path.read_text()))

    @classmethod
    def go_on(cls, path: Path, gpu: str) -> "Record":
        """Return the record in `path` or an empty one; `ValueError` if what is there was found on another device."""
        before = json.loads(path.read_text()) if path.exists() else {"gpu": gpu, "sections": {}}
        if before["gpu"] != gpu:
            raise ValueError(f"{path} has results of {before['gpu']}, this is {gpu}; move it away, or say --out")
        return cls(path, provenance(PACKAGES) | {"gpu": gpu, "sections": before["sections"]})

    def has(self, name: str) -> bool:
        """Return whether a section has been measured to its end."""
        section = self.sections.get(name, {})
        return "seconds" in section and not {"failed", "not measured"} & section.keys()

    def begin(self, name: str) -> None:
        self.sections[name] = {"figures": {}}
        self.write()

    def add(self, name: str, key: str, figures: Any) -> None:
        self.sections[name]["figures"][key] = figures
        self.write()

    def end(self, name: str, seconds: float, error: Exception | str | None = None) -> None:
        section = self.sections[name] | {"seconds": round(seconds, 3)}
        if isinstance(error, NotMeasuredError):
            section["not measured"] = str(error)
        elif isinstance(error, Exception):
            lines = "".join(traceback.format_exception(error)).rstrip().replace(f"{ROOT}/", "").splitlines()
            told = f"{type(error).__name__}: {error}".replace(f"{ROOT}/", "")
            section["failed"] = {"error": told, "traceback": lines[-LINES:]}
        elif error is not None:
            section["failed"] = {"error": error}
        self.sections[name] = section
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json_text(self.document, indent=1) + "\n")
        unfinished.replace(self.path)
