"""Networks on the CPU, each opened at its first use."""

import os
from collections.abc import Callable
from threading import Lock

from sdtrt.engine.networks.backends import Network


class OpenNetworks:
    """Networks by name; each is opened at its first use, once in a process. Several threads may use them.

    A forked process opens networks itself, since the threads of its parent's networks do not exist in it.

    Arguments:
        load: opens a network.
    """

    def __init__(self, load: Callable[[str], Network]) -> None:
        self._load = load
        self._inherited: list[object] = []  # of parent processes; to close these networks would wait for threads
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._networks: dict[str, Network] = {}
        self._lock = Lock()

    def get(self, name: str) -> Network:
        """Return a network; errors are those of `load`."""
        if self._process != os.getpid():
            self._inherited.append(self._networks)
            self._start()
        with self._lock:
            if name not in self._networks:
                self._networks[name] = self._load(name)
            return self._networks[name]
