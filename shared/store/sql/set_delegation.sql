/* relaytrace: set_delegation */
-- Makes a delegation; of the same name another one is ended. The same again makes none, and nothing is made that is longer
-- than it may be.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 delegation_id, $4 and $5 id and name of the delegator,
-- $6 delegate, $7 groups, $8 from (null: now), $9 until, $10 reason, $11 kind of the delegator,
-- $12 how many of one delegator may stand
WITH standing AS (
    -- Locked, so that of two that come together the second sees the first one's.
    SELECT d.* FROM delegations d
    WHERE d.tenant_id = $2 AND d.delegation_id = $3 AND d.ended_at IS NULL
    FOR NO KEY UPDATE
), timed AS MATERIALIZED (
    SELECT GREATEST(at_or_clock($1), max(s.created_at) + interval '1 microsecond') AS at,
        -- A name is free when its delegation is over.
        bool_or(s.delegator_id <> $4 AND s.until > at_or_clock($1)) IS TRUE AS is_anothers
    FROM standing s
), terms AS MATERIALIZED (
    SELECT t.at, t.is_anothers, COALESCE($8::timestamptz, t.at) AS starts_at,
        $9::timestamptz > GREATEST(t.at, COALESCE($8, t.at)) AS is_ahead,
        $9 <= COALESCE($8, t.at) + interval '90 days' AS is_short,
        (
            SELECT count(*) FROM delegations d
            WHERE d.tenant_id = $2 AND d.delegator_id = $4 AND d.delegation_id <> $3 AND d.ended_at IS NULL
                AND d.until > t.at
        ) < $12::bigint AS has_room
    FROM timed t
), same AS (
    SELECT FROM standing s
    WHERE s.delegator_id = $4 AND s.delegate_id = $6::text AND s.groups = $7::text[] AND s.until = $9
        AND s.reason = $10::text AND ($8 IS NULL OR s.starts_at = $8)
), accepted AS (
    SELECT t.* FROM terms t WHERE t.is_ahead AND t.is_short AND t.has_room AND NOT t.is_anothers AND NOT EXISTS (SELECT FROM same)
), ended AS (
    UPDATE delegations d SET ended_at = a.at, ended_by_kind = $11::text, ended_by = $4, ended_by_name = $5
    FROM accepted a CROSS JOIN standing s
    WHERE d.tenant_id = s.tenant_id AND d.delegation_id = s.delegation_id AND d.created_at = s.created_at
    RETURNING d.delegation_id
), made AS (
    -- Nothing where another has made one meanwhile: the statement is sent again.
    INSERT INTO delegations (
        tenant_id, delegation_id, delegator_id, delegator_name, delegate_id, groups, starts_at, until, reason, created_at
    )
    SELECT $2, $3, $4, $5::text, $6, $7, a.starts_at, $9, $10, a.at
    FROM accepted a WHERE (SELECT count(*) FROM ended) >= 0
    ON CONFLICT (tenant_id, delegation_id) WHERE ended_at IS NULL DO NOTHING
    RETURNING delegation_id
)
SELECT t.is_anothers AS "is_anothers!", t.is_ahead AS "is_ahead!", t.is_short AS "is_short!", t.has_room AS "has_room!",
    EXISTS (SELECT FROM made) OR EXISTS (SELECT FROM same) AS "is_made!"
FROM terms t
