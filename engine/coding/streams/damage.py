"""What can be wrong with a stream. NumPy and the compiled core report the same damage with the same words."""

from enum import IntEnum

from sdtrt.errors import FormatError


class Damage(IntEnum):
    """The kinds of damage; the numbers are those of `Damage` in `kernels/host/symbols.h`."""

    NONE = 0
    TOO_MANY_PASSES = 1
    LEVEL_END = 2
    NON_CANONICAL_BIN = 3
    LAST_GROUP = 4
    RESIDUAL_LEFT_OVER = 5


_MESSAGES = {
    Damage.TOO_MANY_PASSES: "damaged stream: it announces {} passes, there are {}",
    Damage.LEVEL_END: "damaged stream: a level does not end where its last pass does",
    Damage.NON_CANONICAL_BIN: "damaged stream: non-canonical bin (the mode of a table, coded as another bin)",
    Damage.LAST_GROUP: "damaged residual: extent {} of a block, expected 0 to {}",
    Damage.RESIDUAL_LEFT_OVER: "damaged residual: data left over after the last symbol",
}


def error_of(damage: Damage, *values: int) -> FormatError:
    """Return the exception for some damage; `values` are the numbers that its message names."""
    return FormatError(_MESSAGES[damage].format(*values))
