"""`python -m sdtrt`: the command line."""

import sys

from sdtrt.cli import main

if __name__ == "__main__":
    sys.exit(main())
