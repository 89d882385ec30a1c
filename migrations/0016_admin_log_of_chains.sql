-- What administrators do to requests is in their chains, and in the log, too: written with the entry, whoever writes it.
SET LOCAL lock_timeout = '2s';

CREATE FUNCTION log_administration() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    said jsonb := convert_from(NEW.entry, 'UTF8')::jsonb;
BEGIN
    INSERT INTO public.admin_log (tenant_id, at, actor_kind, actor_id, actor_name, action, subject, details)
    SELECT r.tenant_id, NEW.at, 'admin', said #>> '{actor,id}', said #>> '{actor,name}',
        'request.' || NEW.kind, NEW.request_id::text, said - '{request_id,kind,at,actor}'::text[]
    FROM public.hitl_requests r
    WHERE r.request_id = NEW.request_id
        -- The entries of a replay of many are under its order.
        AND NOT said ? 'replay_id';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION log_administration IS 'Notes an administrator''s chain entry in admin_log. With its owner''s rights: who may add an entry need not be able to write the log.';
CREATE TRIGGER approval_chain_administration AFTER INSERT ON approval_chain
    FOR EACH ROW WHEN (position('"actor":{"kind":"admin"'::bytea IN NEW.entry) > 0)
    EXECUTE FUNCTION log_administration();
