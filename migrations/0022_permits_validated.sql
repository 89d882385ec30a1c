-- What 0020 left to be looked at, without a lock that stops anybody.
SET LOCAL lock_timeout = '2s';

ALTER TABLE timeout_policies
    VALIDATE CONSTRAINT timeout_policies_permit_bounded,
    VALIDATE CONSTRAINT timeout_policies_required_is_not_automatic;
ALTER TABLE sweep_failures VALIDATE CONSTRAINT sweep_failures_part_known;
