-- 0026 read the envelope before the block that catches what jsonb cannot hold: one such request ended everybody's search.
SET LOCAL lock_timeout = '2s';

CREATE OR REPLACE FUNCTION searchable_arguments(envelope bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    said jsonb;
BEGIN
    said := convert_from(envelope, 'UTF8')::jsonb;
    -- As the person typed them: quotes and backslashes without their escapes. A bridge's protocol has them on the first
    -- level.
    RETURN replace(replace(COALESCE(said #> '{action,arguments}', said -> 'arguments')::text, '\"', '"'), '\\', '\');
EXCEPTION
    -- 1e-20000 is a number of JSON and none of numeric.
    WHEN data_exception THEN RETURN NULL;
END
$$;
