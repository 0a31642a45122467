"""The sizes of images that an engine is built for."""

import math
import re
from dataclasses import dataclass

MAX_SIDE = 1 << 14

Size = tuple[int, int, int]  # batch, width, height in pixels


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """Smallest, most common and largest batch and image; all three equal for an engine of one size.

    Written `512x512`, `512x512*8` for a batch of 8, `256x256..512x512..1024x1024*4` for a range with batches up to 4.
    """

    smallest: Size
    common: Size
    largest: Size

    @classmethod
    def parse(cls, text: str) -> "ShapeRange":
        """Return the shapes that `text` writes; `ValueError` if it does not write any."""
        match = re.fullmatch(r"(\d{1,9}x\d{1,9})(?:\.\.(\d{1,9}x\d{1,9})\.\.(\d{1,9}x\d{1,9}))?(?:\*(\d{1,9}))?", text)
        if not match:
            raise ValueError(f"shapes {text!r}: expected 512x512, 512x512*8 or 256x256..512x512..1024x1024*4")
        first, middle, last, batch = match.groups()
        sides = [_sides(part or first) for part in (first, middle, last)]
        batches = (1, 1, int(batch or 1)) if middle else (int(batch or 1),) * 3
        sizes = [(n, *pair) for n, pair in zip(batches, sides, strict=True)]
        if max(max(size) for size in sizes) > MAX_SIDE:
            raise ValueError(f"shapes {text!r}: sides and batches may be {MAX_SIDE} at most")
        ordered = all(a <= b <= c for a, b, c in zip(*sizes, strict=True))
        if not ordered or min(sizes[0]) < 1:
            raise ValueError(f"shapes {text!r}: sizes must be positive, and rise from smallest to largest")
        return cls(*sizes)

    def __str__(self) -> str:
        (_, w0, h0), (_, w1, h1), (batch, w2, h2) = self.smallest, self.common, self.largest
        one = self.smallest == self.largest
        text = f"{w0}x{h0}" if one else f"{w0}x{h0}..{w1}x{h1}..{w2}x{h2}"
        return f"{text}*{batch}" if batch > 1 else text

    def cover(self, size: Size) -> bool:
        """Return whether an engine for these shapes takes a batch of images of a size."""
        return all(a <= b <= c for a, b, c in zip(self.smallest, size, self.largest, strict=True))

    @property
    def spread(self) -> int:
        """By how many pixels the largest batch exceeds the smallest: engines for fewer sizes are faster."""
        return math.prod(self.largest) - math.prod(self.smallest)

    def planes(self, channels: int, divisor: int) -> list[tuple[int, int, int, int]]:
        """Return the three shapes (N, C, H, W) of planes `divisor` times smaller than the images.

        `ValueError` if the sizes are no multiples of it.
        """
        if any(side % divisor for _, *sides in (self.smallest, self.common, self.largest) for side in sides):
            raise ValueError(f"shapes {self}: sides must be multiples of {divisor}")
        return [
            (batch, channels, height // divisor, width // divisor)
            for batch, width, height in (self.smallest, self.common, self.largest)
        ]


def _sides(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)
