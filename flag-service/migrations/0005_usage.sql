-- How often, and when last, organisations used modules of which something is said. No change of the policy:
-- each process adds what its Envoys report.
CREATE TABLE module_usage (
    module TEXT NOT NULL,
    organisation TEXT NOT NULL,
    requests BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    PRIMARY KEY (module, organisation)
);
