"""Entry point of `python -m server.cli`, the same as `promptir`."""

import sys

from server.cli import main

sys.exit(main())
