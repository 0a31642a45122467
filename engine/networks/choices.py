"""Names that callers choose from: models, looks, shapes of engines. The module imports no NumPy."""

from typing import Literal, get_args

BUILT_IN = "tiny"  # the model that is part of the package
Look = Literal["faithful", "vivid"]
LookOption = Literal["auto", "faithful", "vivid"]
LOOKS: tuple[str, ...] = get_args(LookOption)
STANDARD_SHAPES = ("64x64..512x512..1024x1024",)  # of TensorRT engines
