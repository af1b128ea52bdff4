-- An application whose schema was changed, and 20,000 changes of the last year.

CREATE TABLE customers (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    placed_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer ON orders (customer_id);
ALTER TABLE orders ADD COLUMN note text;

INSERT INTO pggit.objects (object_type, object_name) SELECT 'table', 'old.table_' || n FROM generate_series(1, 200) n;
INSERT INTO pggit.history (object_id, change_type, command, checksum, took_ms, created_at)
SELECT o.id, 'ALTER TABLE', c.command, digest(c.command, 'sha256'), 5 + n % 20,
       now() - make_interval(mins => 60 + n * 25)
  FROM generate_series(1, 20000) n
  JOIN pggit.objects o ON o.object_name = 'old.table_' || 1 + n % 200,
       LATERAL (SELECT 'ALTER TABLE ' || o.object_name || ' ADD COLUMN c' || n || ' text' AS command) c;

VACUUM (ANALYZE);
