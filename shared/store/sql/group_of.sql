/* relaytrace: group_of */
-- A page of the requests of an agent's group, by id, each with the size that answers would have up to it. No row: the
-- key of the token is not active.
--
-- $1 key_id, $2 agent_id, $3 group, $4 id after which the page starts (null: the first page), $5 rows of a page
SELECT g.request_id AS "request_id?: RequestId", g.size AS "size?"
FROM active_keys k
LEFT JOIN LATERAL (
    SELECT g.request_id, sum(
        3000 + COALESCE(3 * octet_length(c.entry), 0) + COALESCE(octet_length(e.resume), 0)
            + COALESCE(octet_length(w.action), 0) + COALESCE(octet_length(w.response), 0)
    ) OVER (ORDER BY g.request_id)::bigint AS size
    FROM (
        -- One too many: whether there is a next page.
        SELECT g.request_id FROM request_groups g
        WHERE g.agent_id = $2 AND g.group_key = $3
            AND g.request_id > COALESCE($4::uuid, '00000000-0000-0000-0000-000000000000')
        ORDER BY g.request_id LIMIT $5::bigint + 1
    ) g
    LEFT JOIN request_envelopes e ON e.request_id = g.request_id
    LEFT JOIN hitl_decisions d ON d.request_id = g.request_id
    LEFT JOIN approval_chain c ON c.request_id = d.request_id AND c.seq = d.chain_seq
    LEFT JOIN decision_values w ON w.request_id = d.request_id AND w.seq = d.chain_seq
) g ON true
WHERE k.key_id = $1 AND k.agent_id = $2
ORDER BY g.request_id
