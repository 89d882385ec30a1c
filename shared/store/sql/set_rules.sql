/* relaytrace: set_rules */
-- Makes the next version of a tenant's rules. No row: another version stands than was expected, or the same document does.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 version that is expected (0: none), $4 document, $5 note,
-- $6 to $8 kind, id and name of the administrator
WITH tenant AS (
    -- Agents that are being registered have it: they are waited for, and get the version (`spread_rules_version`).
    SELECT t.tenant_id FROM tenants t WHERE t.tenant_id = $2 FOR UPDATE
), made AS (
    -- Of two at once the second finds its version taken.
    INSERT INTO rules (tenant_id, version, document, note, created_at, created_by, created_by_name)
    SELECT t.tenant_id, $3::integer + 1, $4::bytea, $5::text, at_or_clock($1), $7, $8
    FROM tenant t
    WHERE $3 = COALESCE((SELECT max(r.version) FROM rules r WHERE r.tenant_id = $2), 0)
        AND NOT EXISTS (
            SELECT FROM rules r WHERE r.tenant_id = $2 AND r.version = $3 AND r.document = $4 AND r.note = $5
        )
    ON CONFLICT (tenant_id, version) DO NOTHING
    RETURNING *
), logged AS (
    INSERT INTO admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT tenant_id, created_at, $6::text, $7::text, $8::text, 'rules.set', version::text,
        jsonb_build_object('note', note, 'sha256', encode(sha256(document), 'hex'))
    FROM made
)
SELECT version, document, note, created_at, created_by, created_by_name FROM made
