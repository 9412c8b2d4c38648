-- Follows with_issues.sql.
SELECT
    state, code, rule_key, template_key, reason, count(*) AS count, max(detail) AS detail,
    (array_agg(delivery_id ORDER BY delivery_id DESC))[1] AS example,
    min(created_at) AS oldest_at, max(created_at) AS newest_at, (SELECT count(*) FROM recent) AS looked_at
FROM open
GROUP BY state, code, rule_key, template_key, reason
ORDER BY count(*) DESC, max(created_at) DESC
