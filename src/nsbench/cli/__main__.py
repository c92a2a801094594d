"""`python -m nsbench.cli`: the command `nsbench`."""

import sys

from nsbench.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
