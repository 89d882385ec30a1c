/* relaytrace: set_freeze */
-- Makes a freeze, or finds the same one standing. Another one of its name ends where it begins, so that what a stop has
-- revoked stays revoked. One row: what keeps it from being made, and the freeze if it stands.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 freeze_id, $4 agent_id (null: any), $5 action_type (null: any),
-- $6 mode, $7 until, $8 reason, $9 to $11 kind, id and name of the administrator
WITH standing AS (
    -- Locked, so that of two that come together the second sees the first one's.
    SELECT f.* FROM freezes f
    WHERE f.tenant_id = $2 AND f.freeze_id = $3 AND f.ended_at IS NULL
    FOR NO KEY UPDATE
), same AS (
    SELECT s.* FROM standing s
    WHERE s.agent_id IS NOT DISTINCT FROM $4::text AND s.action_type IS NOT DISTINCT FROM $5::text
        AND s.mode = $6::text AND s.until = $7::timestamptz AND s.reason = $8::text
), timed AS MATERIALIZED (
    -- Known only when the row is locked. No two of one name begin at the same time.
    SELECT GREATEST(at_or_clock($1), max(s.created_at) + interval '1 microsecond') AS at FROM standing s
), terms AS MATERIALIZED (
    SELECT t.at, $4 IS NULL OR EXISTS (SELECT FROM agents a WHERE a.agent_id = $4 AND a.tenant_id = $2) AS is_known,
        $7 > t.at AS is_ahead, $6 <> 'hold' OR $7 <= t.at + interval '7 days' AS is_short
    FROM timed t
), accepted AS (
    SELECT t.at FROM terms t WHERE t.is_known AND t.is_ahead AND t.is_short AND NOT EXISTS (SELECT FROM same)
), ended AS (
    UPDATE freezes f SET ended_at = a.at, ended_by = $10
    FROM accepted a CROSS JOIN standing s
    WHERE f.tenant_id = s.tenant_id AND f.freeze_id = s.freeze_id AND f.created_at = s.created_at
    RETURNING f.*
), made AS (
    -- Nothing where another has made one meanwhile: the statement is sent again.
    INSERT INTO freezes (tenant_id, freeze_id, agent_id, action_type, mode, until, reason, created_at, created_by)
    SELECT $2, $3, $4, $5, $6, $7, $8, a.at, $10 FROM accepted a WHERE (SELECT count(*) FROM ended) >= 0
    ON CONFLICT (tenant_id, freeze_id) WHERE ended_at IS NULL DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT $2, m.created_at, $9::text, $10, $11::text, 'freeze.set', m.freeze_id,
        jsonb_build_object('was', (SELECT to_jsonb(s) FROM standing s), 'became', to_jsonb(m))
    FROM made m
), shown AS (
    SELECT * FROM same UNION ALL SELECT * FROM made
)
SELECT t.is_known AS "is_known!", t.is_ahead AS "is_ahead!", t.is_short AS "is_short!",
    s.freeze_id AS "freeze_id?: FreezeId", s.agent_id AS "agent_id?: AgentId",
    s.action_type AS "action_type?: ActionType", s.mode AS "mode?: FreezeMode", s.until AS "until?",
    s.reason AS "reason?", s.created_at AS "created_at?", s.created_by AS "created_by?",
    s.ends_at > t.at AS is_in_force
FROM terms t LEFT JOIN shown s ON true
