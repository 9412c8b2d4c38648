-- The labels that an app's people have aliases under at OneSignal. An event that names anybody by another one is refused.
-- NULL: nobody has said; every label is taken, as it was for apps of before this.

ALTER TABLE apps ADD COLUMN alias_labels text[];
