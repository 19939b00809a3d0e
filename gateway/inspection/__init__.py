"""Whole messages: their MIME structure as offsets, edits as splices, and the plugins' verdicts.

The buffer that came in is never re-written by a MIME library: every octet that no edit covers
is the same octet that arrived.
"""
