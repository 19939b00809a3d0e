"""Reports on the audit of logins: questions asked of its store, and answers for people and programs.

``selection`` says which records are meant and ``tally`` counts them; ``logins``, ``plaintext``,
``readiness``, ``user`` and ``tls`` each make one ``report`` of the counts, which ``text``, ``data``
(JSON, CSV) and ``page`` (HTML, with the charts of ``chart``) show.  Nothing here knows of Twisted.
"""
