"""Whole datasets: `sdtrt dataset`.

latent_dataset    a loader of latents for training
torch_dataset     the same as a PyTorch dataset, shared among ranks and workers
runner            a run from source to destination: finished shards, remaining shards, the manifest
shards            the shards of a task, and their fingerprints
shard_worker      a single shard: read, encode or decode, write
shard_checkpoint  the results of an unfinished shard
process_backend   shards on all cores of this machine
ray_backend       shards on a Ray cluster
sources           samples in folders, lists of URLs, WebDataset tars and Parquet files
reading           the bytes and the further fields of samples
stores            destinations: the same forms, written atomically
tars, tables      tar and Parquet files
"""

from sdtrt.dataset.latent_dataset import LatentDataset

__all__ = ["LatentDataset"]
