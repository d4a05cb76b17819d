"""Entry point of `python -m models.training`."""

import sys

from models.training.cli import main

sys.exit(main())
