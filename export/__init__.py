"""The export stage, for a build machine: checkpoints to bundles.

The main modules are `build` (checkpoints), `import_onnx` (ONNX pairs), `calibrate` and `engines`.
"""

from sdtrt.process.environment import set_default

# Since version 1.32, ONNX Runtime sends telemetry when it is imported.
set_default("ORT_DISABLE_TELEMETRY", "1")
