-- The account at the log-in provider that a member first logged in with: issuer and subject. An address can be given to
-- another person, an account can't. NULL: never logged in there, or deactivated since.

ALTER TABLE team_members ADD COLUMN provider_account text UNIQUE;
