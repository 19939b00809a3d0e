"""Bytes to frames and back: lines, literals, dots, SASL payloads, PROXY headers.

Pure functions and small state machines.  Nothing here knows a verb or a side, and every
buffer has a bound, so that framing stays right whatever the grammar above makes of it.
"""
