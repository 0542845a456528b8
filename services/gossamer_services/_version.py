"""The version of the ``gossamer-services`` distribution."""

__version__ = "0.1.0"
