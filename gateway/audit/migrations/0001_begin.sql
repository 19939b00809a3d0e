-- What reads it is in both SQLite and PostgreSQL: {id} is the automatic key of each.
CREATE TABLE logins (
    id {id},
    time BIGINT NOT NULL,
    session TEXT NOT NULL,
    protocol TEXT NOT NULL,
    listener TEXT NOT NULL,
    address TEXT NOT NULL,
    network TEXT NOT NULL,
    user_given TEXT NOT NULL,
    "user" TEXT NOT NULL,
    mechanism TEXT NOT NULL,
    protection TEXT NOT NULL,
    tls_version TEXT NOT NULL,
    tls_cipher TEXT NOT NULL,
    tls_group TEXT NOT NULL,
    tls_sni TEXT NOT NULL,
    tls_client TEXT NOT NULL,
    ja4 TEXT NOT NULL,
    exposed SMALLINT NOT NULL,
    outcome TEXT NOT NULL,
    code TEXT NOT NULL,
    client_name TEXT NOT NULL,
    client_program TEXT NOT NULL,
    upstream TEXT NOT NULL,
    policy TEXT NOT NULL,
    judgement TEXT NOT NULL,
    chain TEXT NOT NULL DEFAULT ''
);
CREATE INDEX logins_time ON logins (time);
CREATE INDEX logins_user ON logins ("user", time);
CREATE TABLE events (
    id {id},
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    session TEXT NOT NULL,
    protocol TEXT NOT NULL,
    listener TEXT NOT NULL,
    address TEXT NOT NULL,
    "user" TEXT NOT NULL,
    count BIGINT NOT NULL,
    detail TEXT NOT NULL,
    data TEXT NOT NULL,
    chain TEXT NOT NULL DEFAULT ''
);
CREATE INDEX events_time ON events (time);
CREATE TABLE programs (
    session TEXT PRIMARY KEY,
    time BIGINT NOT NULL,
    program TEXT NOT NULL
);
