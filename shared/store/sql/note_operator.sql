/* relaytrace: note_operator */
-- Notes an operator as their token describes them, and says whether they are blocked.
--
-- $1 now (null: the database's clock), $2 tenant_id, $3 operator_id, $4 name, $5 email, $6 groups, $7 known_as
INSERT INTO operators AS o (tenant_id, operator_id, name, email, groups, known_as, first_seen_at, seen_at)
VALUES ($2, $3, $4, $5, $6, $7, at_or_now($1), at_or_now($1))
ON CONFLICT (tenant_id, operator_id) DO UPDATE
SET name = excluded.name, email = excluded.email, groups = excluded.groups, known_as = excluded.known_as,
    seen_at = GREATEST(o.seen_at, excluded.seen_at)
RETURNING status = 'blocked' AS "is_blocked!"
