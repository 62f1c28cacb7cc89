"""`python -m cloakwork.cli`."""

import sys

from . import main

sys.exit(main())
