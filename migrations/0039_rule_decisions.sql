-- Decisions of rules: how often each may decide, and what each did. Additive.
SET LOCAL lock_timeout = '2s';

CREATE TABLE rule_uses (
    tenant_id   text        NOT NULL,
    rule_name   text        NOT NULL,
    most        integer     NOT NULL,
    per_seconds integer     NOT NULL,
    started_at  timestamptz NOT NULL,
    uses        integer     NOT NULL,
    granted     integer     NOT NULL,
    CONSTRAINT rule_uses_pkey PRIMARY KEY (tenant_id, rule_name),
    CONSTRAINT rule_uses_counted CHECK (uses >= 0 AND granted >= 0)
);
COMMENT ON TABLE rule_uses IS 'How often rules with a limit have decided. Locked by each statement that counts, so that none is over it.';
COMMENT ON COLUMN rule_uses.tenant_id IS 'Whose rule.';
COMMENT ON COLUMN rule_uses.rule_name IS 'The rule. A new version of it goes on counting.';
COMMENT ON COLUMN rule_uses.most IS 'So many decisions, as the version said that counted last.';
COMMENT ON COLUMN rule_uses.per_seconds IS 'In so many seconds, as the version said that counted last.';
COMMENT ON COLUMN rule_uses.started_at IS 'The first decision of those that are counted.';
COMMENT ON COLUMN rule_uses.uses IS 'Decisions since then.';
COMMENT ON COLUMN rule_uses.granted IS 'Those of them that the latest statement may make.';

CREATE TABLE rule_effects (
    tenant_id text    NOT NULL,
    version   integer NOT NULL,
    rule_name text    NOT NULL,
    applied   bigint  NOT NULL,
    would     bigint  NOT NULL,
    CONSTRAINT rule_effects_pkey PRIMARY KEY (tenant_id, version, rule_name),
    CONSTRAINT rule_effects_counted CHECK (applied >= 0 AND would >= 0)
);
COMMENT ON TABLE rule_effects IS 'What rules did, beside their failures. Counted behind the answers: a crash may lose some.';
COMMENT ON COLUMN rule_effects.tenant_id IS 'Whose rule.';
COMMENT ON COLUMN rule_effects.version IS 'Version of the rules.';
COMMENT ON COLUMN rule_effects.rule_name IS 'The rule.';
COMMENT ON COLUMN rule_effects.applied IS 'Submissions that it was applied to.';
COMMENT ON COLUMN rule_effects.would IS 'Submissions that it would have been applied to, were it in force.';

CREATE FUNCTION lost_its_key() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE serialization_failure USING MESSAGE = 'a use was counted for a key that another submission has taken meanwhile';
END
$$;
COMMENT ON FUNCTION lost_its_key IS 'Takes the statement back as a conflict: it is sent again, and then finds the other submission.';

GRANT SELECT, INSERT, UPDATE ON rule_uses, rule_effects TO relaytrace_app;
