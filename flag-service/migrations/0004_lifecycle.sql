-- What became of modules: a row when one enters a state, in the order of `number`. `cause` is what brought it
-- there, such as a revision or a file's hash: whichever process sees it, it is written down once.
CREATE TABLE lifecycle (
    number BIGINT PRIMARY KEY,
    module TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    cause TEXT NOT NULL,
    UNIQUE (module, to_state, cause)
);
CREATE INDEX lifecycle_module ON lifecycle (module, number);
