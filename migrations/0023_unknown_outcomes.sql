-- Used approvals of which nobody knows what became stay on a list for a week, for administrators to look at. Additive: what
-- the sweep of the release before takes off the list is not looked at.
SET LOCAL lock_timeout = '2s';

ALTER TABLE outcomes_due ADD COLUMN unknown_at timestamptz;
COMMENT ON TABLE outcomes_due IS 'Permits that were consumed and whose outcome is not reported: to be said unknown, then for a week to be looked at.';
COMMENT ON COLUMN outcomes_due.due_at IS 'From when on a sweep says that the outcome is unknown; where it has, from when on it forgets the row.';
COMMENT ON COLUMN outcomes_due.unknown_at IS 'When a sweep said that the outcome is unknown; null: it has not yet.';
GRANT UPDATE (due_at, unknown_at) ON outcomes_due TO relaytrace_app;
