"""Pillow images and arrays <-> `Image`, with all that they carry. The way in is `image`."""
