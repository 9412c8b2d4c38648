-- A worker is fenced before its row goes: nothing is claimed or admitted in its name from then on, not even by a process that
-- stood still for hours in the middle of a step. Its row goes once every statement from before has surely ended.
ALTER TABLE workers ADD COLUMN fenced_at timestamptz;
