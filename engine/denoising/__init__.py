"""Which denoising the latents of a file get: arithmetic only, no network. Start reading at `denoise.UnetSpec`."""
