"""Entry point of ``python -m bids_hsf``."""

import sys

from bids_hsf.cli.app import main

sys.exit(main())
