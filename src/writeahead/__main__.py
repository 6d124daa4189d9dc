"""``python -m writeahead`` is the command line."""

import sys

from writeahead.cli import main

if __name__ == "__main__":
    sys.exit(main())
