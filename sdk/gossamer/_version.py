"""The version of the ``gossamer`` distribution."""

__version__ = "0.1.0"
