"""`python -m tuidl` is the `tuidl` command."""

import sys

from tuidl.cli import main

if __name__ == "__main__":
    sys.exit(main())
