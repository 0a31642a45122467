"""The run time: pictures to files and back. The way in is `codec.PictureCodec`.

Its rooms, from the ground up: `format`, `coding`, `denoising`, `networks`.
"""
