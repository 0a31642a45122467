"""Names that callers choose from: models, looks, shapes of engines. The module imports no NumPy."""

from typing import Literal, get_args

BUILT_IN = "tiny"  # the model that is part of the package
Look = Literal["faithful", "fast"]
LookOption = Literal["auto", "faithful", "fast"]
LOOKS: tuple[str, ...] = get_args(LookOption)
OTHER_LOOKS: tuple[Look, ...] = ("fast",)  # each has a decoder network of its own, which a bundle may lack
STANDARD_SHAPES = ("64x64..512x512..1024x1024",)  # of TensorRT engines
