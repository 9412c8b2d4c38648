-- The id of the secret key that a process seals with. A rotation is complete once no process seals with an earlier one.

ALTER TABLE workers ADD COLUMN sealing_key bytea;
