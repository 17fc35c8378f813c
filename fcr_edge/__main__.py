"""Run fcr-edge as `python -m fcr_edge`."""

from __future__ import annotations

from fcr_edge.cli import main

if __name__ == "__main__":
    main()
