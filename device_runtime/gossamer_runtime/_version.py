"""The version of the ``gossamer-runtime`` distribution."""

__version__ = "0.1.0"
