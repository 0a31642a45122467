"""The file format: bytes <-> `File`, its chunks and its latent profiles. Start reading at `container`."""
