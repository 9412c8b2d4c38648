-- The people who use the console, how they log in, and their sessions. No secret is stored as text: passwords are
-- argon2id, tokens and sessions SHA-256 of random bytes.
CREATE TABLE team_members (
    id             uuid PRIMARY KEY,
    -- In lower case: people write it either way.
    email          text NOT NULL UNIQUE CHECK (email = lower(email) AND email <> ''),
    name           text NOT NULL CHECK (name <> ''),
    role           text NOT NULL CHECK (role IN ('viewer', 'editor', 'publisher', 'operator', 'admin')),
    -- NULL: invited, and not logged in yet.
    password_hash  text,
    created_at     timestamptz NOT NULL,
    disabled_at    timestamptz
);

-- Single-use links: the very first log-in (no member), an invitation, a new password.
CREATE TABLE team_tokens (
    token_hash  bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    member_id   uuid REFERENCES team_members ON DELETE CASCADE,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX team_tokens_member ON team_tokens (member_id);

CREATE TABLE sessions (
    token_hash  bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    member_id   uuid NOT NULL REFERENCES team_members ON DELETE CASCADE,
    created_at  timestamptz NOT NULL,
    -- To the minute: otherwise each request would be a write.
    seen_at     timestamptz NOT NULL,
    ends_at     timestamptz NOT NULL
);
CREATE INDEX sessions_member ON sessions (member_id);

-- Failed log-ins, counted before a password is checked; `subject` is a hash of the account, or of account and address.
CREATE TABLE log_in_attempts (
    subject       bytea PRIMARY KEY CHECK (octet_length(subject) = 32),
    window_start  timestamptz NOT NULL,
    attempts      integer NOT NULL CHECK (attempts > 0)
) WITH (fillfactor = 80);
