"""The build machine: checkpoints to bundles. The ways in are `build`, `adopt` and `engines`."""
