"""``python -m brainrdl``."""

import sys

from brainrdl.cli import main

if __name__ == "__main__":
    sys.exit(main())
