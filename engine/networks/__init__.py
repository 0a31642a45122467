"""Networks: pixels to latents and back on the CPU or a GPU, with tiles. The entry point is `pipeline.open_pipeline`."""
