-- What a search of the queue looks at of an envelope.
SET LOCAL lock_timeout = '2s';

CREATE FUNCTION searchable_arguments(envelope bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    -- As the person typed them: quotes and backslashes without their escapes.
    RETURN replace(replace((convert_from(envelope, 'UTF8')::jsonb #> '{action,arguments}')::text, '\"', '"'), '\\', '\');
EXCEPTION
    -- 1e-20000 is a number of JSON and none of numeric: one such request must not end everybody's search.
    WHEN data_exception THEN RETURN NULL;
END
$$;
COMMENT ON FUNCTION searchable_arguments IS 'The arguments of an envelope''s action as text; null where they hold a number that jsonb cannot.';
