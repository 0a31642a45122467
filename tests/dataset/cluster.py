"""A process with a Ray cluster of two nodes. It prints a line of JSON with the address of the cluster.

For a line of standard input, a JSON list [source, destination], it encodes the source and kills a node meanwhile. It
prints a line of JSON about that run. It ends with its standard input.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray.cluster_utils import Cluster

from sdtrt.dataset import ray_backend
from sdtrt.dataset.runner import run
from sdtrt.dataset.shards import Task

KILLED_AFTER = 5  # finished shards


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False)  # by the first node, before there is another
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    print(json.dumps({"address": cluster.address}), flush=True)
    for line in sys.stdin:
        print(json.dumps(encode_and_kill(cluster, node, *json.loads(line))), flush=True)
    ray.shutdown()
    cluster.shutdown()


def encode_and_kill(cluster: Cluster, node: Any, source: str, destination: str) -> dict[str, Any]:
    """Encode a folder, and kill a node once `KILLED_AFTER` shards are done."""
    done_when_killed = []

    def kill_node() -> None:
        records = Path(destination) / ".shards"
        while not records.is_dir() or len(list(records.iterdir())) < KILLED_AFTER:
            time.sleep(0.005)
        cluster.remove_node(node, allow_graceful=False)
        done_when_killed.append(len(list(records.iterdir())))

    killer = Thread(target=kill_node)
    killer.start()
    task = Task(operation="encode", source=source, destination=destination, machine={"model": "tiny", "threads": 1})
    run_shards = partial(ray_backend.run_shards, workers=2, address=cluster.address)
    summary = run(task, run_shards, shard_size=1, max_errors=None, on_progress=lambda _: None)
    killer.join()
    return {"done_when_killed": done_when_killed[0], "errors": summary.errors, **summary.sums}


if __name__ == "__main__":
    main()
