"""The number of denoising steps that a caller asks for. The module imports no NumPy."""

from sdtrt.engine.format.arguments import checked_integer

MAX_STEPS = 1000  # of DDIM


def validate_steps(steps: object) -> int:
    """Return a number of denoising steps, 0 to `MAX_STEPS`; errors as of `checked_integer`."""
    return checked_integer("denoise", steps, 0, MAX_STEPS)
