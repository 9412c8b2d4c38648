SELECT g.scope, coalesce(a.name, r.key, t.key || '@' || v.number, g.subject) AS name, g.code, g.detail, g.closed_at,
    g.closed_until
FROM gates g
LEFT JOIN apps a ON g.scope = 'app' AND a.id::text = g.subject
LEFT JOIN rules r ON g.scope = 'rule' AND r.id::text = g.subject
LEFT JOIN template_versions v ON g.scope = 'template_version' AND v.id::text = g.subject
LEFT JOIN templates t ON t.id = v.template_id
WHERE $3::text[] IS NULL OR g.subject = ANY ($3)
UNION ALL
SELECT 'app', p.name, $1, p.paused_reason, p.paused_at, $2
FROM apps p
WHERE p.paused_at IS NOT NULL AND ($3::text[] IS NULL OR p.id::text = ANY ($3))
ORDER BY closed_at, name
