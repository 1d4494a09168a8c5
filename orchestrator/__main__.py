"""`python -m metafleet.orchestrator` is the `metafleet` command."""

import sys

from metafleet.orchestrator.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
