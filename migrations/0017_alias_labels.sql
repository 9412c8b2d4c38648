-- The alias labels of an app's people at OneSignal. An event with a recipient under another label is rejected. NULL:
-- not set; every label is accepted, as for apps created before this migration.

ALTER TABLE apps ADD COLUMN alias_labels text[];
