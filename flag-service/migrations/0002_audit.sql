-- Every row of the history also says from which address, and holds the hash that chains it to the
-- row before. The table is made anew because `hash` must have no default: a process of an older
-- version shall fail to write rather than write a row outside the chain. The empty hashes of rows
-- that are there already are computed in the same transaction, by the program.
CREATE TABLE chained (
    revision BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    summary TEXT NOT NULL,
    edits TEXT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO chained (revision, at_ms, actor, source, address, reason, summary, edits, hash)
SELECT revision, at_ms, actor, source, '', reason, summary, edits, '' FROM history;
DROP TABLE history;
ALTER TABLE chained RENAME TO history;
