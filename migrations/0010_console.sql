-- The results of one version's deliveries, newest first: the history compares it with the previous version. New rows
-- are appended at the end of their version's range, so an insert touches a page that is in memory anyway.
CREATE INDEX deliveries_version ON deliveries (template_version_id, id) WHERE template_version_id IS NOT NULL;

-- Events for which nothing was planned are found by their person: "why did Anna get nothing?" has no delivery to start
-- from. Set if an event has one recipient and no delivery, so that the common case costs nothing.
ALTER TABLE events ADD COLUMN unanswered_for text;
CREATE INDEX events_unanswered ON events (unanswered_for, id) WHERE unanswered_for IS NOT NULL;

-- Finds a person by an id or address without its label.
CREATE INDEX user_aliases_alias ON user_aliases (alias);
