"""The only part of the build that pyproject.toml does not state: the fast path of the NCA generator.

Optional: without a C compiler, or on one that refuses, the install goes on, and numba or NumPy compute the same bits.
"""

from setuptools import Extension, setup

NAME, SOURCE = "workloads.upstreams.nca._native", "workloads/upstreams/nca/native.c"
# -ffp-contract=off: the fixed-order exponential has no fused multiply-add. No -march: one node's build runs on another,
# native.c chooses when it runs.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fvisibility=hidden", "-Wno-psabi"]

setup(ext_modules=[Extension(NAME, [SOURCE], extra_compile_args=FLAGS, optional=True)])
