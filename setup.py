"""The compiled core, which is optional. Everything else is in pyproject.toml.

`SDTRT_PURE=1` leaves it out, for a wheel that runs everywhere. Where it cannot be compiled, sdtrt uses NumPy.
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(path.as_posix() for path in Path("kernels/host").rglob("*.cpp"))
HEADERS = sorted(path.as_posix() for pattern in ("*.h", "*.inc") for path in Path("kernels/host").rglob(pattern))
# Results must not depend on the compiler: no product and sum become one operation.
UNIX_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-fno-fast-math", "-pthread", "-g0"]
MSVC_FLAGS = ["/std:c++17", "/utf-8", "/O2", "/fp:precise", "/EHsc"]


class BuildCore(build_ext):
    """Compiles with the flags of the compiler at hand."""

    def build_extension(self, ext: Extension) -> None:
        is_msvc = self.compiler.compiler_type == "msvc"
        ext.extra_compile_args = MSVC_FLAGS if is_msvc else UNIX_FLAGS
        ext.extra_link_args = [] if is_msvc else ["-pthread"]
        super().build_extension(ext)


CORE = Extension(
    "sdtrt.kernels._core",
    SOURCES,
    depends=HEADERS,
    language="c++",
    py_limited_api=True,
    optional=True,
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
)
# Free-threaded Python has no stable ABI before 3.15.
HAS_STABLE_ABI = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
IS_PURE = os.environ.get("SDTRT_PURE") == "1" or not HAS_STABLE_ABI
# A folder of its own for each build: what an earlier one has left in build/ would become part of the wheel.
BUILD = tempfile.TemporaryDirectory(prefix="sdtrt-build-")

setup(
    ext_modules=[] if IS_PURE else [CORE],
    cmdclass={"build_ext": BuildCore},
    options={
        "build": {"build_base": BUILD.name},
        "bdist_wheel": {} if IS_PURE else {"py_limited_api": "cp311"},
    },
)
