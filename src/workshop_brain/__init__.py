"""Workshop Brain: runs a modern workshop from its own data."""

__version__ = "0.1.0"
