"""Who a message is from: SPF, DKIM, ARC and DMARC verified, and DKIM signatures made.

``lookups`` asks the DNS, within bounds; ``canonical`` and ``tags`` are what DKIM and ARC share;
``results`` writes and recognises Authentication-Results.  Nothing here raises because of what a
stranger has written: each check has a result of RFC 8601 and a reason.
"""
