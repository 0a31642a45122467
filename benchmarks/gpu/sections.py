"""All sections by name, the most informative and shortest ones first."""

from functools import partial

from gpu.bandwidth import bandwidth
from gpu.check import Section
from gpu.codec import architecture, built_in, memory, parity
from gpu.graph_edits import graph_edits
from gpu.networks import compiled, eager, export
from gpu.suite import tests
from gpu.torch_networks import around_torch
from gpu.training import training

SECTIONS: dict[str, Section] = {
    "tests": tests,
    "bandwidth": bandwidth,
    "parity": parity,
    "tiny-trt": partial(built_in, "trt"),
    "tiny-ort": partial(built_in, "ort"),
    "torch": eager,
    "sd1-torch": around_torch,
    "export": export,
    "sd1-trt": partial(architecture, "trt"),
    "sd1-ort": partial(architecture, "ort"),
    "graph-edits": graph_edits,
    "memory": memory,
    "training": training,
    "torch-compiled": compiled,
}
