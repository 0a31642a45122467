"""The build machine: checkpoints to bundles. The ways in are `build`, `adopt` and `engines`."""

import os

# From 1.32 on, importing ONNX Runtime reports each process to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
