"""``python -m sofie_root.cli``."""

from . import main

raise SystemExit(main())
