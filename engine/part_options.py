"""The part of an image that a caller asks for: a region, or a preview. The module imports no NumPy."""

import re

Region = tuple[int, int, int, int]  # left, top, width, height, in pixels
MAX_SCALE = 1024  # of previews: a side of the image relative to a side of its preview


def region_of_text(text: str) -> Region:
    """Return (left, top, width, height) of a region written as in X11: 800x600+1200+400; `ValueError` if it is none."""
    match = re.fullmatch(r"(\d{1,8})x(\d{1,8})\+(\d{1,8})\+(\d{1,8})", text)
    if not match:
        raise ValueError(f"{text[:40]!r}, expected width, height, left and top, such as 800x600+1200+400")
    width, height, left, top = map(int, match.groups())
    return left, top, width, height
