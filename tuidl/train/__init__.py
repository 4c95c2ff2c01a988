"""The only room that knows torch. Import its modules by name; this page loads nothing."""

import os
import sys

# How threads wait for each other, which OpenMP reads when torch loads. One that spins on a core that another program
# needs holds all the others up; one that sleeps is woken late. By default they spin for milliseconds: fastest on quiet
# cores, up to ten times slower beside another program. A few microseconds have most of the one and little of the other;
# benchmarks/README.md has the figures.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ.update({"GOMP_SPINCOUNT": "1000"} if sys.platform == "linux" else {"OMP_WAIT_POLICY": "PASSIVE"})
