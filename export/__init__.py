"""The build machine: checkpoints to bundles. The ways in are `build`, `adopt` and `engines`."""

from sdtrt.process.environment import set_default

# From 1.32 on, importing ONNX Runtime reports each process to its makers.
set_default("ORT_DISABLE_TELEMETRY", "1")
