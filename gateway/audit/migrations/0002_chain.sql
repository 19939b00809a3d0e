-- Where each hash chain begins and ends: one row for each table that is chained.
CREATE TABLE chains (
    name TEXT PRIMARY KEY,
    head TEXT NOT NULL,
    count BIGINT NOT NULL,
    anchor TEXT NOT NULL,
    pruned BIGINT NOT NULL,
    pruned_at BIGINT NOT NULL,
    seal TEXT NOT NULL
);
-- Whom the pseudonyms stand for, encrypted.
CREATE TABLE pseudonyms (
    pseudonym TEXT PRIMARY KEY,
    time BIGINT NOT NULL,
    sealed TEXT NOT NULL
);
CREATE INDEX programs_time ON programs (time);
CREATE INDEX pseudonyms_time ON pseudonyms (time);
