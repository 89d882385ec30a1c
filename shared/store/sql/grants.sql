-- What the application's role may do. `migrate` applies this file each time, with the deployment's own names: it is safe
-- to repeat, and makes the grants again in a cluster that a dump was restored into. What is final it can only add to and
-- read.
GRANT USAGE ON SCHEMA public TO relaytrace_app;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO relaytrace_app;
GRANT INSERT, UPDATE ON
    agents, agent_keys, hitl_requests, deliveries, agent_polls, dead_letters, replays, agent_caps, tenants, freezes
    TO relaytrace_app;
GRANT INSERT, UPDATE, DELETE ON request_dedupe, outbox, timeout_policies, sweep_failures TO relaytrace_app;
GRANT INSERT, DELETE ON outcomes_due TO relaytrace_app;
GRANT INSERT ON
    request_envelopes, hitl_decisions, approval_chain, decision_values, request_groups, rules, admin_log
    TO relaytrace_app;
