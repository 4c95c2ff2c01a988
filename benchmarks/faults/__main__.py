"""The fault bench: break runs in every way the world does, and count how often a promise did not hold.

    python benchmarks/faults                     # every campaign, at the size of the tests
    python benchmarks/faults sigkill damage      # some of them
    python benchmarks/faults --full              # at full size, for hours
    python benchmarks/faults sigkill --count 200

Exits with 1 when a promise was broken. `--list` says what each campaign promises.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from faults import files, processes, strangers  # noqa: F401 - they register their campaigns
from faults.campaign import CAMPAIGNS, NotHere


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", metavar="CAMPAIGN", help="default: all")
    parser.add_argument("--full", action="store_true", help="as many trials as a release deserves")
    parser.add_argument("--count", type=int, help="so many trials of each")
    parser.add_argument("--list", action="store_true", help="list the campaigns")
    args = parser.parse_args()
    unknown = set(args.which) - set(CAMPAIGNS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CAMPAIGNS)}")
    broken = 0
    for name in args.which or CAMPAIGNS:
        found = CAMPAIGNS[name]
        count = args.count or (found.full if args.full else found.small)
        if args.list:
            print(f"{name:<16} {found.small:>5} / {found.full:<6} {found.promise}")
            continue
        began, done, wrong = time.monotonic(), 0, []
        try:
            with tempfile.TemporaryDirectory() as directory:
                for line in found.run(Path(directory), count):
                    done += 1
                    wrong += [line] if line else []
        except NotHere as reason:
            print(f"{name:<16} not here: {reason}", flush=True)
            continue
        print(f"{name:<16} {done:>6} trials {len(wrong):>4} broken  {time.monotonic() - began:7.1f} s", flush=True)
        for line in wrong[:20]:
            print(f"    {line}")
        broken += len(wrong)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
