"""The version, in one place: the package, the wheel and every run read it from here."""

__version__ = "0.1.0"
