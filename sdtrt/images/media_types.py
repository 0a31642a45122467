"""Media types and options of the image files that are written. The module imports no Pillow."""

NAMES = {"image/png": "PNG", "image/webp": "WEBP", "image/avif": "AVIF", "image/jpeg": "JPEG"}  # Pillow's
SUFFIXES = {"image/png": "png", "image/webp": "webp", "image/avif": "avif", "image/jpeg": "jpg"}
TYPES_BY_SUFFIX = {suffix: media_type for media_type, suffix in SUFFIXES.items()}
PNG_LEVEL = 1  # of zlib: the fastest that compresses
