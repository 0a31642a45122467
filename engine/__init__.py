"""The run time: images to files and back. The way in is `codec.PictureCodec`.

Its folders, from the ground up: `format`, `coding`, `layers`, `denoising`, `networks`; docs/architecture.md describes
them.
"""
