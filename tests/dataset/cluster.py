"""A process that encodes a folder on a cluster of two nodes, and kills one of them on the way."""

import json
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread

import ray
from ray.cluster_utils import Cluster

from sdtrt.dataset import ray_backend
from sdtrt.dataset.runner import run
from sdtrt.dataset.shards import Task

KILLED_AFTER = 5


def main(source: str, destination: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    ray.init(address=cluster.address, log_to_driver=False)  # by the first node, before there is another
    other = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    done = []

    def kill_in_the_middle() -> None:
        records = Path(destination) / ".shards"
        while not records.is_dir() or len(list(records.iterdir())) < KILLED_AFTER:
            time.sleep(0.005)
        cluster.remove_node(other, allow_graceful=False)
        done.append(len(list(records.iterdir())))

    Thread(target=kill_in_the_middle).start()
    task = Task(operation="encode", source=source, destination=destination, machine={"model": "tiny", "threads": 1})
    run_shards = partial(ray_backend.run_shards, workers=2, address=cluster.address)
    summary = run(task, run_shards, shard_size=1, max_errors=None, on_progress=lambda _: None)
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps({"done_when_killed": done[0], "errors": summary.errors, **summary.sums}))


if __name__ == "__main__":
    main(*sys.argv[1:])
