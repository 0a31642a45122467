"""The range of image sizes that a TensorRT engine is built for."""

import math
import re
from dataclasses import dataclass

MAX_SIDE = 1 << 14

Size = tuple[int, int, int]  # batch, width, height in pixels


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The smallest, the most common and the largest size: TensorRT's optimization profile min, opt, max.

    All three are equal for an engine of one size. `str` gives `512x512`, `512x512*8` for a batch of 8, or
    `256x256..512x512..1024x1024*4` for a range of sizes with batches of 1 to 4.
    """

    min: Size
    opt: Size
    max: Size

    @classmethod
    def parse(cls, text: str) -> "ShapeRange":
        """Return the range that a text in the format of `str` names.

        Raises:
            ValueError: the text has another format, or a size is out of range.
        """
        match = re.fullmatch(r"(\d{1,9}x\d{1,9})(?:\.\.(\d{1,9}x\d{1,9})\.\.(\d{1,9}x\d{1,9}))?(?:\*(\d{1,9}))?", text)
        if not match:
            raise ValueError(f"shapes {text!r}: expected 512x512, 512x512*8 or 256x256..512x512..1024x1024*4")
        first, middle, last, batch = match.groups()
        sides = [_sides(part or first) for part in (first, middle, last)]
        batches = (1, 1, int(batch or 1)) if middle else (int(batch or 1),) * 3
        sizes = [(n, *pair) for n, pair in zip(batches, sides, strict=True)]
        if any(number > MAX_SIDE for size in sizes for number in size):
            raise ValueError(f"shapes {text!r}: sides and batches are at most {MAX_SIDE}")
        ordered = all(a <= b <= c for a, b, c in zip(*sizes, strict=True))
        if not ordered or any(number < 1 for number in sizes[0]):
            raise ValueError(f"shapes {text!r}: sizes must be positive and must not decrease")
        return cls(*sizes)

    def __str__(self) -> str:
        (_, w0, h0), (_, w1, h1), (batch, w2, h2) = self.min, self.opt, self.max
        text = f"{w0}x{h0}" if self.min == self.max else f"{w0}x{h0}..{w1}x{h1}..{w2}x{h2}"
        return f"{text}*{batch}" if batch > 1 else text

    def covers(self, size: Size) -> bool:
        """Return whether an engine for this range takes a batch of images of a size."""
        return all(a <= b <= c for a, b, c in zip(self.min, size, self.max, strict=True))

    @property
    def extent(self) -> int:
        """The difference of the largest and the smallest batch in pixels. Engines for a small extent are faster."""
        return math.prod(self.max) - math.prod(self.min)

    def planes(self, channels: int, divisor: int) -> list[tuple[int, int, int, int]]:
        """Return the min, opt and max shapes (N, C, H, W) of planes.

        Arguments:
            channels: C.
            divisor: image sides are so many times H and W.

        Raises:
            ValueError: a side is not a multiple of `divisor`.
        """
        if any(side % divisor for _, *sides in (self.min, self.opt, self.max) for side in sides):
            raise ValueError(f"shapes {self}: sides must be multiples of {divisor}")
        return [
            (batch, channels, height // divisor, width // divisor)
            for batch, width, height in (self.min, self.opt, self.max)
        ]


def _sides(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)
