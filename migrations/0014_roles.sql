-- The service needs no rights to create or drop tables: days are created and dropped by functions of the schema's owner.

ALTER FUNCTION create_day_partitions(date) SECURITY DEFINER;
ALTER FUNCTION create_day_partitions(date) SET search_path FROM CURRENT;
REVOKE ALL ON FUNCTION create_day_partitions(date) FROM PUBLIC;

-- Drops one day of a table that is partitioned by days; refuses anything else.
CREATE FUNCTION drop_day_partition(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        JOIN pg_class p ON p.oid = i.inhparent
        WHERE c.relname = name AND c.relnamespace = current_schema()::regnamespace
          AND name ~ ('^' || p.relname || '_[0-9]{8}$')
    ) THEN
        RAISE EXCEPTION '% is not a day of a table', name;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
END $$;
REVOKE ALL ON FUNCTION drop_day_partition(text) FROM PUBLIC;
