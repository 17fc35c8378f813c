"""Run fcr-train as `python -m fcr_train.cli`."""

from __future__ import annotations

from fcr_train.cli import main

if __name__ == "__main__":
    main()
