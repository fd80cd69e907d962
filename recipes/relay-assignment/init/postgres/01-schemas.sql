-- Both databases and their tables. PostgreSQL's image runs it on its first start when this folder is its
-- /docker-entrypoint-initdb.d; by hand: psql -f 01-schemas.sql postgres://postgres@127.0.0.1/postgres
SELECT 'CREATE DATABASE relay_service' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'relay_service') \gexec
SELECT 'CREATE DATABASE assignment_service' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'assignment_service') \gexec
\connect relay_service
\ir schemas/relay.sql
\connect assignment_service
\ir schemas/assignment.sql
