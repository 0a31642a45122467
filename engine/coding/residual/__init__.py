"""The residual layer: what networks leave out of a picture, by a transform of blocks; `docs/format.md`, section 3.7."""
