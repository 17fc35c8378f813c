"""Head CTs: what is read, and what is refused."""

from fcr_train.simulate.ct.reading import read_scan

__all__ = ["read_scan"]
