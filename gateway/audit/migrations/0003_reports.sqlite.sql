-- Reports group by device.  SQLite sorts a million rows in some seconds; reading them in this order takes a
-- fraction of one.  PostgreSQL groups by hashes, and its indexes can't hold rows as long as names may be.
DROP INDEX logins_user;
CREATE INDEX logins_devices ON logins (
    "user", address, protocol, listener, mechanism, protection, tls_version, tls_cipher, tls_group,
    tls_client, exposed, outcome, client_name, client_program, time
);
