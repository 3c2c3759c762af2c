"""python -m steergraph"""

import sys

from steergraph.cli import main

sys.exit(main())
