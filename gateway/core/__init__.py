"""The heart: steps, the engine's contract, and the words all protocols share.

Standard library only; no I/O, no clock, no Twisted.
"""
