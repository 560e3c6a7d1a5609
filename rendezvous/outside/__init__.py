"""What comes from outside (a wire, a file, a flag), and how it is taken in.

Everything here is pure, raises ValueError alone, and needs nothing but the standard library. The
modules import each other by relative names: `trainer.outside` is the same files by links, because a
worker imports nothing of `rendezvous` (a user's file may have that name) and this package nothing
of `trainer`.
"""
