"""The version of visionkit."""

__version__ = "0.1.0.dev0"
