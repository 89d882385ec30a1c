-- Listeners of two more kinds: instances of the Agent Approval Protocol, and browsers of operators. Additive: the binaries
-- before it keep working, and tell these nothing.
SET LOCAL lock_timeout = '2s';

-- ---------------------------------------------------------------- instances
ALTER TABLE agent_keys
    ADD COLUMN instance_name text,
    ADD COLUMN instance_of text,
    ADD COLUMN instance_sha256 bytea;
COMMENT ON COLUMN agent_keys.instance_name IS 'Of an instance of the Agent Approval Protocol: its name, for people.';
COMMENT ON COLUMN agent_keys.instance_of IS 'Of an instance: the key that made it; null: an administrator registered the key.';
COMMENT ON COLUMN agent_keys.instance_sha256 IS 'Of an instance: SHA-256 of the body that asked for it, so that only the same again is answered again.';

-- ---------------------------------------------------------------- listeners
ALTER TABLE listeners
    ADD COLUMN of_agent text,
    ADD COLUMN key_id text,
    ADD COLUMN operator_id text,
    ADD COLUMN subscription_id text,
    ADD COLUMN target_sha256 bytea,
    ADD CONSTRAINT listeners_instance_once UNIQUE (key_id),
    ADD CONSTRAINT listeners_browser_once UNIQUE (tenant_id, operator_id, subscription_id),
    DROP CONSTRAINT listeners_channel_or_agent,
    DROP CONSTRAINT listeners_push_is_an_agents,
    DROP CONSTRAINT listeners_kind_known,
    ADD CONSTRAINT listeners_kind_known
        CHECK (kind IN ('webhook', 'slack', 'email', 'push', 'instance', 'browser')) NOT VALID,
    ADD CONSTRAINT listeners_named_by_kind CHECK (
        num_nonnulls(channel_id, agent_id, key_id, subscription_id) = 1
        AND (channel_id IS NOT NULL) = (kind IN ('webhook', 'slack', 'email'))
        AND (agent_id IS NOT NULL) = (kind = 'push')
        AND (key_id IS NOT NULL) = (kind = 'instance') AND (of_agent IS NOT NULL) = (kind = 'instance')
        AND (subscription_id IS NOT NULL) = (kind = 'browser') AND (operator_id IS NOT NULL) = (kind = 'browser')
        AND (target_sha256 IS NOT NULL) = (kind = 'browser')
    ) NOT VALID;
COMMENT ON TABLE listeners IS 'Who is told: channels of people, agents that are pushed to, instances with a receiver, browsers of operators. What deletes events from the outbox looks here.';
COMMENT ON COLUMN listeners.kind IS 'webhook, slack, email, push, instance or browser.';
COMMENT ON COLUMN listeners.config IS 'What administrators see of it: url, or to. Of a browser: its endpoint and public keys, of which only VAPID_PRIVATE_KEY makes use.';
COMMENT ON COLUMN listeners.agent_id IS 'The agent that is pushed to; null: something else.';
COMMENT ON COLUMN listeners.channel_id IS 'The administrator''s own name of a channel; null: something else.';
COMMENT ON COLUMN listeners.matching IS 'Which requests a channel or a browser tells of; null: all.';
COMMENT ON COLUMN listeners.of_agent IS 'Of an instance: its agent; nothing of another agent is told to it.';
COMMENT ON COLUMN listeners.key_id IS 'Of an instance: its key. It is told of what was asked with this key.';
COMMENT ON COLUMN listeners.operator_id IS 'Of a browser: whose it is.';
COMMENT ON COLUMN listeners.subscription_id IS 'Of a browser: its owner''s own name of it.';
COMMENT ON COLUMN listeners.target_sha256 IS 'Of a browser: SHA-256 of its endpoint and keys. A browser is its latest owner''s alone.';

-- ---------------------------------------------------------------- grants
GRANT DELETE ON listeners TO relaytrace_app;
