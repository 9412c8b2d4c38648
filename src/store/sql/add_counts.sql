INSERT INTO outcome_counts AS c (day, template_key, template_version, rule_key, event_type, channel, locale, accepted,
    reported, measurable, sent, delivered, opened, opened_soon, clicked, clicked_soon, failed, bounced, suppressed,
    unsubscribed, complained, devices, devices_delivered)
SELECT b.day, b.template_key, b.template_version, b.rule_key, b.event_type, b.channel::channel, b.locale, n.accepted,
    n.reported, n.measurable, n.sent, n.delivered, n.opened, n.opened_soon, n.clicked, n.clicked_soon, n.failed, n.bounced,
    n.suppressed, n.unsubscribed, n.complained, n.devices, n.devices_delivered
FROM unnest($1::date[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
    AS b (day, template_key, template_version, rule_key, event_type, channel, locale, counts)
CROSS JOIN LATERAL jsonb_to_record(b.counts) AS n (
    accepted bigint, reported bigint, measurable bigint, sent bigint, delivered bigint, opened bigint, opened_soon bigint,
    clicked bigint, clicked_soon bigint, failed bigint, bounced bigint, suppressed bigint, unsubscribed bigint,
    complained bigint, devices bigint, devices_delivered bigint
)
ON CONFLICT (day, template_key, template_version, rule_key, event_type, channel, locale) DO UPDATE
SET accepted = c.accepted + excluded.accepted,
    reported = c.reported + excluded.reported,
    measurable = c.measurable + excluded.measurable,
    sent = c.sent + excluded.sent,
    delivered = c.delivered + excluded.delivered,
    opened = c.opened + excluded.opened,
    opened_soon = c.opened_soon + excluded.opened_soon,
    clicked = c.clicked + excluded.clicked,
    clicked_soon = c.clicked_soon + excluded.clicked_soon,
    failed = c.failed + excluded.failed,
    bounced = c.bounced + excluded.bounced,
    suppressed = c.suppressed + excluded.suppressed,
    unsubscribed = c.unsubscribed + excluded.unsubscribed,
    complained = c.complained + excluded.complained,
    devices = c.devices + excluded.devices,
    devices_delivered = c.devices_delivered + excluded.devices_delivered
