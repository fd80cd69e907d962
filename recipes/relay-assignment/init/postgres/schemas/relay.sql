-- The table that the relay reads. Whoever has an event writes a row; `tidemill generate detection --into postgres` does.
CREATE TABLE IF NOT EXISTS events (
    event_id TEXT PRIMARY KEY,
    region TEXT NOT NULL,
    rule_type TEXT NOT NULL,
    location TEXT NOT NULL,
    severity BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    camera_id TEXT NOT NULL,
    frame_ref TEXT NOT NULL UNIQUE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- pending, sent, then what answers say: assigned, completed, rejected. A row that is no event is refused.
    state TEXT NOT NULL DEFAULT 'pending',
    -- Why it is refused.
    reason TEXT
);

-- What waits is found at once, however much was sent.
CREATE INDEX IF NOT EXISTS events_waiting ON events (created_at, event_id) WHERE state = 'pending';
