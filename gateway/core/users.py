"""User names: one form for those that mean the same."""

from __future__ import annotations

import unicodedata

#: Characters of a user name that count.
MOST = 320


def normalised(user: str) -> str:
    """Return a user name in the form that policies and reports compare: NFKC, case-folded, trimmed.

    What stands behind ``@`` is a domain, whose trailing dot means nothing.
    """
    return unicodedata.normalize("NFKC", user[:MOST]).casefold().strip().rstrip(".")
