"""Pillow images and arrays <-> `Picture`, with all that they carry. The way in is `picture`."""
