-- A worker is fenced before its row is deleted: from then on nothing is claimed or admitted under its id, not even by a
-- process that stalled for hours in the middle of a step. Its row is deleted once every earlier statement has certainly
-- ended.
ALTER TABLE workers ADD COLUMN fenced_at timestamptz;
