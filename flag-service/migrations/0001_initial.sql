-- The revision: one row, raised in the transaction of every change, so that changes have one order.
CREATE TABLE revision (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL
);
INSERT INTO revision (id, revision) VALUES (1, 0);

-- What is set up now. `body` is the resource as JSON.
CREATE TABLE resource (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- Every change, for good: who, when, from where, why, and each resource before and after.
CREATE TABLE history (
    revision BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    summary TEXT NOT NULL,
    edits TEXT NOT NULL
);
