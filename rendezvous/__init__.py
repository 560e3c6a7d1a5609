"""The control plane: who is in, in what order, and why.

Imports no torch and nothing of `trainer`.
"""
