"""The login audit: every attempt kept in a store that reports ask.

``record`` says what is kept of a login and of a security event, ``store`` what a store can do;
``migrations`` holds the schema, one numbered file a step.  Nothing here knows of Twisted.
"""
