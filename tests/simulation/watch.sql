-- What the catalog is at the start of each seed.
CREATE TABLE sim_uploads AS SELECT * FROM template_uploads;
CREATE TABLE sim_templates AS SELECT * FROM templates;

-- A watch on the queue: what no statement may ever do to a row, and what a row was when it went.
CREATE TABLE sim_findings (name text NOT NULL, detail text NOT NULL);
CREATE TABLE sim_ends (delivery_id uuid, attempts integer, generation integer, first_ambiguous_at timestamptz);
CREATE FUNCTION sim_watch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change text := format('%s: %s/%s -> %s/%s', OLD.delivery_id, OLD.state, OLD.claim_epoch, NEW.state, NEW.claim_epoch);
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO sim_ends VALUES (OLD.delivery_id, OLD.attempts, OLD.generation, OLD.first_ambiguous_at);
        RETURN NULL;
    END IF;
    IF NEW.claim_epoch < OLD.claim_epoch
        OR (NEW.worker_id IS DISTINCT FROM OLD.worker_id AND NEW.claim_epoch = OLD.claim_epoch)
        OR (OLD.state = 'sending' AND NEW.state <> 'sending' AND NEW.claim_epoch = OLD.claim_epoch) THEN
        INSERT INTO sim_findings VALUES ('epoch', change);
    END IF;
    IF NEW.expires_at <> OLD.expires_at THEN
        INSERT INTO sim_findings VALUES ('expiry', change);
    END IF;
    IF NEW.attempts < OLD.attempts OR NEW.generation < OLD.generation OR NEW.crashes < OLD.crashes THEN
        INSERT INTO sim_findings VALUES ('counts', change);
    END IF;
    IF OLD.first_ambiguous_at IS NOT NULL
        AND (NEW.first_ambiguous_at IS DISTINCT FROM OLD.first_ambiguous_at
            OR NEW.batch_id IS DISTINCT FROM OLD.batch_id OR NEW.generation <> OLD.generation) THEN
        INSERT INTO sim_findings VALUES ('doubt', change);
    END IF;
    IF OLD.batch_id IS NOT NULL AND NEW.batch_id IS NULL AND NEW.state = 'queued'
        AND NEW.first_ambiguous_at IS NOT NULL THEN
        INSERT INTO sim_findings VALUES ('doubt', change);
    END IF;
    RETURN NULL;
END $$;
-- Its name sorts behind those of planted bugs: it sees what they leave behind.
CREATE TRIGGER zz_sim_watch AFTER UPDATE OR DELETE ON queue FOR EACH ROW EXECUTE FUNCTION sim_watch();

-- A renewal that adds more than a lease's length came after the lease was over.
CREATE FUNCTION sim_watch_leases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.lease_until > OLD.lease_until + interval '45 seconds' THEN
        INSERT INTO sim_findings VALUES ('lease', format('%s: %s -> %s', OLD.id, OLD.lease_until, NEW.lease_until));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_sim_watch AFTER UPDATE ON workers FOR EACH ROW EXECUTE FUNCTION sim_watch_leases();

-- A gate that closes for another reason is closed for the shortest time: its closings are counted anew.
CREATE FUNCTION sim_watch_gates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.code <> OLD.code AND NEW.times_closed <> 1 THEN
        INSERT INTO sim_findings VALUES ('gate', format('%s: %s -> %s', OLD.subject, OLD.code, NEW.code));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER zz_sim_watch AFTER UPDATE ON gates FOR EACH ROW EXECUTE FUNCTION sim_watch_gates();
