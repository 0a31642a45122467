"""Whole datasets: `sdtrt dataset`.

latents    a loader for training; for_torch the same as PyTorch has it
runs       a task from source to destination: what is done already, what is left, the manifest
shards     a task's samples, cut into pieces of work
work       one shard: read, encode or decode, write
pool       shards on all cores of this machine
on_ray     shards on a cluster
sources    samples in folders, lists of URLs, WebDataset tars and Parquet
reading    what samples hold
stores     the same forms, written: files that appear whole or not at all
"""

from sdtrt.dataset.latents import Latents

__all__ = ["Latents"]
