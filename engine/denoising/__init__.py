"""Which steps of a UNet clean which file's latents, in numbers alone. The way in is `denoise.Denoiser`."""
