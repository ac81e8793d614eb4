-- A constraint of the tests, never of the product: no commit may leave the resume point (sync_state.next_seq) ahead of its
-- rows. Triggers note what a transaction does to the data path; at its commit the notes must account for every position
-- that the resume point moved over. Installed on a migrated database by tests/support/resume_point.rs.
CREATE SCHEMA gtm_test;

-- Notes by transaction; rolled back with what they note, to a savepoint too. Empty after a crash, like its transactions.
CREATE UNLOGGED TABLE gtm_test.noted (
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    kind text NOT NULL,
    staged_id text,
    seq bigint,
    amount bigint,
    first_observed bigint,
    last_observed bigint,
    stats jsonb
);
CREATE INDEX noted_transaction ON gtm_test.noted (transaction);

CREATE FUNCTION gtm_test.note_dropped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gtm_test.noted (kind, staged_id, seq, amount) VALUES ('dropped', OLD.staged_id, OLD.seq, OLD.record_count);
    RETURN NULL;
END $$;
CREATE TRIGGER note_dropped AFTER DELETE ON gtm.staged_batch FOR EACH ROW EXECUTE FUNCTION gtm_test.note_dropped();

CREATE FUNCTION gtm_test.note_applied() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gtm_test.noted (kind, staged_id, seq) VALUES ('applied', NEW.staged_id, NEW.seq);
    RETURN NULL;
END $$;
CREATE TRIGGER note_applied AFTER INSERT ON gtm.applied_batch FOR EACH ROW EXECUTE FUNCTION gtm_test.note_applied();

-- The run's counts as they were before the transaction touched them.
CREATE FUNCTION gtm_test.note_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM gtm_test.noted WHERE transaction = pg_current_xact_id() AND kind = 'counts') THEN
        INSERT INTO gtm_test.noted (kind, stats) VALUES ('counts', OLD.stats);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_counts AFTER UPDATE ON gtm.run FOR EACH ROW EXECUTE FUNCTION gtm_test.note_counts();

-- Rows and dead letters as the server counts them, statement by statement; TG_ARGV[0] is the kind of note.
CREATE FUNCTION gtm_test.note_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gtm_test.noted (kind, amount, first_observed, last_observed)
        SELECT TG_ARGV[0], count(*), min(observed_seq), max(observed_seq) FROM written HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER note_letters AFTER INSERT ON gtm.dead_letter REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION gtm_test.note_rows('letters');
-- A record that lands, or is rejected anew, resolves its older letters.
CREATE TRIGGER note_resolved AFTER DELETE ON gtm.dead_letter REFERENCING OLD TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION gtm_test.note_rows('resolved');
DO $$
DECLARE entity text;
BEGIN
    FOR entity IN SELECT table_name FROM information_schema.columns
        WHERE table_schema = 'gtm' AND column_name = 'payload_hash'
    LOOP
        EXECUTE format('CREATE TRIGGER note_inserted AFTER INSERT ON gtm.%I REFERENCING NEW TABLE AS written
            FOR EACH STATEMENT EXECUTE FUNCTION gtm_test.note_rows(''rows'')', entity);
        EXECUTE format('CREATE TRIGGER note_updated AFTER UPDATE ON gtm.%I REFERENCING NEW TABLE AS written
            FOR EACH STATEMENT EXECUTE FUNCTION gtm_test.note_rows(''rows'')', entity);
    END LOOP;
END $$;

-- A batch that could not even be opened is one dead letter for all its records; what the one letter hides is added back.
CREATE FUNCTION gtm_test.hidden_by_damage(tenant text, connector text, since bigint, first bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(n.amount - 1), 0)::bigint FROM gtm.dead_letter AS d
    JOIN gtm_test.noted AS n ON n.transaction = pg_current_xact_id() AND n.kind = 'dropped'
        AND n.seq - first = ((d.observed_seq >> 20) & 1048575)
    WHERE d.tenant_id = tenant AND d.connector_id = connector AND d.observed_seq >= since AND d.code = 'DamagedBatch'
$$;

CREATE FUNCTION gtm_test.check_resume_point() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moved CONSTANT bigint := NEW.next_seq - OLD.next_seq;
    -- Version numbers of the positions moved over: run, batch of the run, position in the batch.
    first CONSTANT bigint := (SELECT first_seq FROM gtm.run
        WHERE tenant_id = NEW.tenant_id AND connector_id = NEW.connector_id AND workflow_id = NEW.workflow_id);
    since CONSTANT bigint := (NEW.run_no << 40) + ((OLD.next_seq - first) << 20);
    until CONSTANT bigint := (NEW.run_no << 40) + ((NEW.next_seq - first) << 20);
    before jsonb;
    after jsonb;
    applied record;
    records bigint;
    written bigint;
    letters bigint;
    resolved bigint;
    elsewhere bigint;
    wrong text := '';
BEGIN
    SELECT count(*) AS batches, count(DISTINCT seq) AS positions, min(seq) AS first, max(seq) AS last INTO applied
        FROM gtm_test.noted WHERE transaction = pg_current_xact_id() AND kind = 'applied';
    IF moved < 0 OR (applied.batches, applied.positions) IS DISTINCT FROM (moved, moved)
        OR (applied.first, applied.last) IS DISTINCT FROM (OLD.next_seq, NEW.next_seq - 1) THEN
        wrong := wrong || format(' %s batches recorded for %s positions;', applied.batches, moved);
    END IF;

    SELECT coalesce(sum(d.amount), 0) INTO records FROM gtm_test.noted AS a
        JOIN gtm_test.noted AS d ON d.transaction = a.transaction AND d.kind = 'dropped'
            AND d.staged_id = a.staged_id AND d.seq = a.seq
        WHERE a.transaction = pg_current_xact_id() AND a.kind = 'applied';
    IF EXISTS (SELECT FROM gtm_test.noted AS a WHERE a.transaction = pg_current_xact_id() AND a.kind = 'applied'
        AND NOT EXISTS (SELECT FROM gtm_test.noted AS d
            WHERE d.transaction = a.transaction AND d.kind = 'dropped' AND d.staged_id = a.staged_id)) THEN
        wrong := wrong || ' a staged batch outlives its commit;';
    END IF;

    SELECT coalesce(sum(amount) FILTER (WHERE kind = 'rows'), 0), coalesce(sum(amount) FILTER (WHERE kind = 'letters'), 0),
        coalesce(sum(amount) FILTER (WHERE first_observed < since OR last_observed >= until), 0)
        INTO written, letters, elsewhere
        FROM gtm_test.noted WHERE transaction = pg_current_xact_id() AND kind IN ('rows', 'letters');
    IF elsewhere > 0 THEN
        wrong := wrong || ' rows or dead letters of positions that the resume point did not move over;';
    END IF;
    SELECT coalesce(sum(amount), 0) INTO resolved FROM gtm_test.noted
        WHERE transaction = pg_current_xact_id() AND kind = 'resolved';
    IF NEW.dead_letters - OLD.dead_letters <> letters - resolved THEN
        wrong := wrong || format(' %s dead letters kept, %s resolved, %s counted;', letters, resolved, NEW.dead_letters - OLD.dead_letters);
    END IF;
    letters := letters + gtm_test.hidden_by_damage(NEW.tenant_id, NEW.connector_id, since, first);

    SELECT stats INTO before FROM gtm_test.noted WHERE transaction = pg_current_xact_id() AND kind = 'counts';
    SELECT stats INTO after FROM gtm.run
        WHERE tenant_id = NEW.tenant_id AND connector_id = NEW.connector_id AND workflow_id = NEW.workflow_id;
    wrong := wrong || gtm_test.difference(before, after, 'batches', moved)
        || gtm_test.difference(before, after, 'recordsProcessed', records)
        || gtm_test.difference(before, after, 'recordsWritten', written)
        || gtm_test.difference(before, after, 'errorsCount', letters);

    DELETE FROM gtm_test.noted WHERE transaction = pg_current_xact_id();
    IF wrong <> '' THEN
        RAISE EXCEPTION 'the resume point % of %/% is ahead of its rows:%',
            NEW.next_seq, NEW.tenant_id, NEW.connector_id, wrong
            USING ERRCODE = 'GTM01', CONSTRAINT = 'resume_point_not_ahead_of_rows';
    END IF;
    RETURN NULL;
END $$;

-- What is wrong with the growth of one count; empty when nothing is.
CREATE FUNCTION gtm_test.difference(before jsonb, after jsonb, name text, expected bigint) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN (after ->> name)::bigint - coalesce((before ->> name)::bigint, 0) IS NOT DISTINCT FROM expected THEN ''
        ELSE format(' %s grew by %s where %s is stored;', name,
            coalesce(((after ->> name)::bigint - coalesce((before ->> name)::bigint, 0))::text, 'nothing'), expected) END
$$;

CREATE CONSTRAINT TRIGGER resume_point_not_ahead_of_rows AFTER UPDATE ON gtm.sync_state
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.next_seq IS DISTINCT FROM NEW.next_seq) EXECUTE FUNCTION gtm_test.check_resume_point();

-- A new account's state begins at its first position.
CREATE FUNCTION gtm_test.refuse_start() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the state of %/% begins at position %', NEW.tenant_id, NEW.connector_id, NEW.next_seq
        USING ERRCODE = 'GTM01', CONSTRAINT = 'resume_point_begins_at_nought';
END $$;
CREATE TRIGGER resume_point_begins_at_nought AFTER INSERT ON gtm.sync_state
    FOR EACH ROW WHEN (NEW.next_seq <> 0) EXECUTE FUNCTION gtm_test.refuse_start();
