-- What the assignment service keeps. It makes this by itself; this file is for whoever wants to make it before.

-- Who got which event. An event has one row that is not `reassigned`.
CREATE TABLE IF NOT EXISTS assignments (
    assignment_id text PRIMARY KEY,
    event_id      text NOT NULL,
    user_id       text NOT NULL,
    status        text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'completed', 'rejected', 'reassigned')),
    event         json NOT NULL,
    assigned_at   timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS assignments_event ON assignments (event_id) WHERE status <> 'reassigned';
CREATE INDEX IF NOT EXISTS assignments_open ON assignments (user_id, assigned_at) WHERE status = 'open';

-- How many open assignments each person has. Its row is the lock under which they are counted.
CREATE TABLE IF NOT EXISTS assignees (
    user_id text PRIMARY KEY,
    open    integer NOT NULL DEFAULT 0 CHECK (open >= 0),
    version bigint NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS assignees_open ON assignees (user_id) WHERE open > 0;

-- Answers that the broker has not confirmed yet.
CREATE TABLE IF NOT EXISTS assignment_answers (
    id   bigserial PRIMARY KEY,
    body text NOT NULL
);

-- Messages that are no events, and why.
CREATE TABLE IF NOT EXISTS assignment_refused (
    id         bigserial PRIMARY KEY,
    message    bytea NOT NULL,
    reason     text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT now()
);

-- One row: which database this is, for whoever counts beside it.
CREATE TABLE IF NOT EXISTS assignment_database (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    id       text NOT NULL
);
INSERT INTO assignment_database (id) VALUES (md5(random()::text || clock_timestamp()::text)) ON CONFLICT DO NOTHING;
