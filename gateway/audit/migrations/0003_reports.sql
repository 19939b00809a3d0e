-- Programs are kept by device, not by session: there are far fewer, and reports need no look at sessions.
ALTER TABLE programs RENAME TO programs_by_session;
CREATE TABLE programs (
    "user" TEXT NOT NULL,
    address TEXT NOT NULL,
    program TEXT NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY ("user", address, program)
);
INSERT INTO programs ("user", address, program, time)
    SELECT logins."user", logins.address, named.program, max(named.time)
    FROM programs_by_session AS named JOIN logins ON logins.session = named.session
    GROUP BY logins."user", logins.address, named.program;
DROP TABLE programs_by_session;
