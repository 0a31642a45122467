"""Networks on the CPU, each opened at its first use, once in a process."""

import ctypes
import os
import weakref
from collections.abc import Callable
from threading import Lock

from sdtrt.engine.networks.backends import Network


class OpenNetworks:
    """Networks by name. Several threads may use them.

    A forked process opens networks itself, since the threads of its parent's networks do not exist in it.

    Arguments:
        load: opens a network.
    """

    def __init__(self, load: Callable[[str], Network]) -> None:
        self._load = load
        self._networks: dict[str, Network] = {}
        self._lock = Lock()
        _all_open.add(self)

    def get(self, name: str) -> Network:
        """Return a network; errors are those of `load`."""
        with self._lock:
            if name not in self._networks:
                self._networks[name] = self._load(name)
            return self._networks[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the networks that are open."""
        return tuple(self._networks)

    def start_after_fork(self) -> None:
        """Begin again without networks. Another thread of the parent process may have held the lock."""
        keep_forever(self._networks)
        self._networks, self._lock = {}, Lock()


def keep_forever(inherited: object) -> None:
    """Keep an object of a parent process until this process ends: to delete it would wait for threads without end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


_all_open = weakref.WeakSet[OpenNetworks]()


def _start_all_after_fork() -> None:
    for networks in list(_all_open):
        networks.start_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_all_after_fork)
