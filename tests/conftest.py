"""Set-up of all tests: how many threads the libraries of a worker take."""

import os

# Threads of OpenMP spin while they wait for each other, and several workers share the cores: with one thread each, the
# tests of export take half the time. Read by the libraries when they are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
