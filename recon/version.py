"""The version of this package, for whoever must tell it."""

__version__ = "0.1.0"
