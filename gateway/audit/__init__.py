"""The login audit: every attempt kept in a store that reports ask.

``record`` says what is kept of a login and of a security event, ``store`` what a store can do;
``sqlite`` and ``postgres`` are the stores, ``sql`` what they share, and ``opening`` makes one of a path or
a URL.  ``writer`` writes in a thread of its own.  ``privacy`` cuts addresses and hides users, ``chain``
makes tampering show.  ``migrations`` holds the schema, one numbered file a step.  Nothing here
knows of Twisted.
"""
