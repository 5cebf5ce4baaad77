-- What was answered to writes that brought an idempotency key, written in their transaction. Rows
-- are numbered in the order in which they were written, so that the oldest can be found and dropped.
CREATE TABLE answer (
    idempotency_key TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    request TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    summary TEXT NOT NULL,
    warnings TEXT NOT NULL
);
