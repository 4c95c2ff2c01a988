"""The only room that knows torch. Import its modules by name; this page loads nothing."""

import os

# Threads that have nothing to do sleep instead of spinning. On two cores of which another program uses one, spinning
# threads made training 10 to 30 times slower; on quiet cores both are equally fast. OpenMP reads this when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
