"""The version of the whole, told here and nowhere else; setup.cfg reads it from the source."""

VERSION = "0.1.0"
