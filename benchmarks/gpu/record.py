"""The results of a check in a file that is replaced atomically, so that an interrupted check can continue."""

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
    """Sections by name, each with `figures`, `seconds` after its end, and the reason of a failure."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document
        self.sections: dict[str, dict[str, Any]] = document["sections"]

    @classmethod
    def read(cls, path: Path) -> "Record":
        return cls(path, json.loads(path.read_text()))

    @classmethod
    def resume(cls, path: Path, gpu: str) -> "Record":
        """Return the record in `path` or an empty one; `ValueError` if the record is of another device."""
        document = json.loads(path.read_text()) if path.exists() else {"gpu": gpu, "sections": {}}
        if document["gpu"] != gpu:
            raise ValueError(f"{path} has results of {document['gpu']}, this is {gpu}; move it, or use --out")
        return cls(path, provenance(PACKAGES) | {"gpu": gpu, "sections": document["sections"]})

    def is_complete(self, name: str) -> bool:
        """Return whether a section was measured without a failure."""
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
            message = f"{type(error).__name__}: {error}".replace(f"{ROOT}/", "")
            section["failed"] = {"error": message, "traceback": lines[-LINES:]}
        elif error is not None:
            section["failed"] = {"error": error}
        self.sections[name] = section
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json_text(self.document, indent=1) + "\n")
        temporary.replace(self.path)
