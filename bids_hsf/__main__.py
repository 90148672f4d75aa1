"""Entry point of ``python -m bids_hsf``."""

import sys

from bids_hsf.cli import main

sys.exit(main())
