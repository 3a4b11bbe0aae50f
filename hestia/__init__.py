"""Settings, composition and the command line: the one package that imports all the others."""

__version__ = "0.1.0"
