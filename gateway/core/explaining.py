"""Saying what becomes of each line of a capability list: for `mailgate probe`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: (capability, "pass" | "strike" | "own" | "change", reason)
Row = tuple[str, str, str]


def explain_lines(
    keywords: Mapping[str, Sequence[str]],
    told: Sequence[str],
    struck: Sequence[tuple[str, str]],
    table: Mapping[str, tuple[str, str]],
    unknown: tuple[str, str],
) -> list[Row]:
    """Compare what is offered with what a client is told, for lists of a keyword and arguments a line.

    keywords: offered, with their arguments.  told: the client's lines.  struck: with reasons.
    table: keyword -> (action, reason); ``unknown`` for what is not in it.
    """
    lines = {line.partition(" ")[0]: line for line in told}
    why = dict(struck)
    rows: list[Row] = []
    for keyword, arguments in keywords.items():
        text = " ".join([keyword, *arguments])
        action, reason = table.get(keyword, unknown)
        if keyword not in lines:
            rows.append((text, "strike", why.get(text) or why.get(keyword) or reason))
        elif lines[keyword] == text:
            rows.append((text, "own" if action == "own" else "pass", reason))
        else:
            rows.append((text, "change", f"{lines[keyword]}: {reason}"))
    rows += [(line, "own", table[word][1]) for word, line in lines.items() if word not in keywords]
    return rows
