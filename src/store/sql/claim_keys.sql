WITH won AS (
    INSERT INTO event_keys (source_id, key_digest, fingerprint, event_id)
    SELECT source_id, key_digest, fingerprint, event_id
    FROM unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::uuid[]) AS o (source_id, key_digest, fingerprint, event_id)
    ON CONFLICT DO NOTHING
    RETURNING event_id
)
SELECT
    (SELECT revision FROM catalog_revision) AS revision,
    EXISTS (SELECT 1 FROM workers k WHERE k.id = $7 AND k.fenced_at IS NULL) AS may_be_admitted_leased,
    (SELECT coalesce(array_agg(event_id), '{}') FROM won) AS won,
    (
        SELECT json_agg(json_build_object(
            'label', r.label,
            'alias', r.alias,
            'locale', u.locale,
            'time_zone', u.time_zone,
            'is_erased', u.erased_at IS NOT NULL,
            'opted_out', coalesce((SELECT json_object_agg(o.channel, o.reason) FROM user_opt_outs o WHERE o.user_id = u.id), '{}')
        ))
        FROM unnest($5::text[], $6::text[]) AS r (label, alias)
        -- Look-ups by key whatever the statistics say: a join that was planned without people would read all of them.
        CROSS JOIN LATERAL (SELECT user_id FROM user_aliases WHERE label = r.label AND alias = r.alias LIMIT 1) AS a
        CROSS JOIN LATERAL (SELECT * FROM users WHERE id = a.user_id LIMIT 1) AS u
    ) AS facts,
    (
        SELECT coalesce(array_agg(d.digest), '{}')
        FROM unnest($8::bytea[]) AS d (digest)
        WHERE EXISTS (SELECT 1 FROM erased_identifiers e WHERE e.digest = d.digest OFFSET 0)
    ) AS erased,
    (
        SELECT coalesce(array_agg(blocked.id), '{}')
        FROM (
            SELECT g.subject::uuid AS id FROM gates g WHERE g.scope = 'app'
            UNION
            SELECT p.id FROM apps p WHERE p.paused_at IS NOT NULL
        ) AS blocked
    ) AS gated_apps
