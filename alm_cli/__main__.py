"""`python -m alm_cli` is `alm`."""

from __future__ import annotations

from alm_cli.app import main

main()
