-- How a person logged in, and until when they count as having just confirmed their identity: keys, roles and apps can
-- be changed only within that time. NULL: not at all.
ALTER TABLE sessions
    ADD COLUMN method text NOT NULL DEFAULT 'password' CHECK (method IN ('password', 'oidc', 'local')),
    ADD COLUMN confirmed_until timestamptz;

-- A member's second factor: one row per member who has set one up, or is about to.
CREATE TABLE second_factors (
    member_id     uuid PRIMARY KEY REFERENCES team_members ON DELETE CASCADE,
    -- The authenticator's secret, sealed.
    secret        bytea NOT NULL,
    created_at    timestamptz NOT NULL,
    -- NULL: shown to the member, who has not entered a code yet.
    active_since  timestamptz,
    -- The 30-second step of the last accepted code: no code is valid twice.
    last_step     bigint NOT NULL DEFAULT 0
);

-- Codes that replace the authenticator when it is lost: one row per unused code, by its SHA-256.
CREATE TABLE recovery_codes (
    code_hash  bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
    member_id  uuid NOT NULL REFERENCES second_factors ON DELETE CASCADE
);
CREATE INDEX recovery_codes_member ON recovery_codes (member_id);

-- Log-ins that lack the second factor: one row per browser that was asked for a code.
CREATE TABLE pending_log_ins (
    token_hash  bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    member_id   uuid NOT NULL REFERENCES team_members ON DELETE CASCADE,
    method      text NOT NULL CHECK (method IN ('password', 'oidc')),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX pending_log_ins_member ON pending_log_ins (member_id);

-- Browsers that a member has logged in with: one row per browser and member. Their failed log-ins are counted
-- separately, so that no one else can lock a member out.
CREATE TABLE known_browsers (
    token_hash  bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    member_id   uuid NOT NULL REFERENCES team_members ON DELETE CASCADE,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (token_hash, member_id)
);
CREATE INDEX known_browsers_member ON known_browsers (member_id);

-- Log-ins through the OpenID Connect provider in progress: one row per redirect to it. What belongs to it (nonce,
-- PKCE verifier) is sealed; the row goes when the provider's answer comes.
CREATE TABLE oidc_log_ins (
    state_hash  bytea PRIMARY KEY CHECK (octet_length(state_hash) = 32),
    sealed      bytea NOT NULL,
    expires_at  timestamptz NOT NULL
);
