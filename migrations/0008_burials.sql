-- A worker is buried before its row goes: nothing is claimed or born in its name from then on, not even by a process that
-- stood still for hours in the middle of a step. Its row goes once every statement from before has surely ended.
ALTER TABLE workers ADD COLUMN buried_at timestamptz;
