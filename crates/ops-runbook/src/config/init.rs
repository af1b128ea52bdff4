//! A first `ops.toml`, from what the environment shows.

use std::path::Path;

use super::document::toml_string;
use super::surroundings::Surroundings;

const POSTGRES_VARIABLES: [&str; 3] = ["DATABASE_URL", "POSTGRES_URL", "POSTGRESQL_URL"];
const REDIS_VARIABLES: [&str; 2] = ["REDIS_URL", "VALKEY_URL"];
const POSTGRES_SOCKETS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];
const REDIS_SOCKETS: [&str; 5] = [
    "/var/run/redis/redis-server.sock",
    "/var/run/redis/redis.sock",
    "/run/redis/redis.sock",
    "/var/run/valkey/valkey-server.sock",
    "/run/valkey/valkey.sock",
];

const HEAD: &str = "\
# What ops watches. `ops config check` reads this file, `ops config show` prints what it comes to, and
# `ops config schema` describes every key.
# A secret is { env = \"NAME\" } or { file = \"PATH\" }. In a string, ${NAME} is an environment variable
# and $$ a dollar sign; not in SQL.

# What reports call all this.
# service = \"shop\"

# [check]
# timeout = \"30s\"
# probe_timeout = \"5s\"
";

const POSTGRES_EXAMPLE: &str = "
# [postgres.main]
# url = { env = \"DATABASE_URL\" }
";

const REDIS_EXAMPLE: &str = "
# [redis.cache]
# url = { env = \"REDIS_URL\" }
";

const TAIL: &str = "
# An endpoint that answers 200; headers are secrets.
# [http.api]
# url = \"https://api.example.org/health\"
# headers = { authorization = { env = \"API_AUTHORIZATION\" } }

# The machine that ops runs on: processors, memory, disks and network by themselves, the rest by name.
# [host.local]
# mounts = [\"/\"]
# services = [\"postgresql\"]
# logs = [{ file = \"/var/log/postgresql/postgresql-17-main.log\" }]

# A number of your own: one SELECT whose column `value` is judged.
# [[metric]]
# name = \"orders_stuck\"
# target = \"main\"
# sql = \"SELECT count(*)::float8 AS value FROM orders WHERE paid_at < now() - interval '1 hour'\"
# warning = 10

# Other bounds than the defaults; `ops explain pg.connections` says which there are.
# [thresholds.\"pg.connections\"]
# used = { warning = 70, critical = 85 }
";

/// The text of a new `ops.toml`: a target for what `surroundings` show, by `DATABASE_URL` or `POSTGRES_URL`,
/// by `PGHOST` and its like, or by a local socket; by `REDIS_URL` or `VALKEY_URL`, or by a socket; and the
/// rest as commented examples. It names variables, and never repeats their values.
///
/// ```
/// use ops_runbook::config::{GivenSurroundings, init};
/// let around = GivenSurroundings::default().with_env("DATABASE_URL", "postgres://ops:hunter2@db/shop");
/// let text = init(&around);
/// assert!(text.contains("url = { env = \"DATABASE_URL\" }"));
/// assert!(!text.contains("hunter2"));
/// ```
pub fn init(surroundings: &dyn Surroundings) -> String {
    let postgres = postgres(surroundings).unwrap_or_else(|| POSTGRES_EXAMPLE.to_owned());
    let redis = redis(surroundings).unwrap_or_else(|| REDIS_EXAMPLE.to_owned());
    format!("{HEAD}{postgres}{redis}{TAIL}")
}

fn postgres(surroundings: &dyn Surroundings) -> Option<String> {
    let more = "# databases = [\"shop\"]\n# rls = { schemas = [\"public\"] }\n";
    let schemes = ["postgres://", "postgresql://"];
    let (note, url) = variable(surroundings, &POSTGRES_VARIABLES, &schemes)
        .or_else(|| pg_variables(surroundings))
        .or_else(|| postgres_socket(surroundings))?;
    Some(format!("\n{note}[postgres.main]\nurl = {url}\n{more}"))
}

fn redis(surroundings: &dyn Surroundings) -> Option<String> {
    let schemes = ["redis://", "rediss://", "valkey://", "valkeys://", "redis+unix://", "unix://"];
    let (note, url) = variable(surroundings, &REDIS_VARIABLES, &schemes).or_else(|| {
        let path = REDIS_SOCKETS.iter().find(|path| surroundings.exists(Path::new(path)))?;
        Some(("# A socket on this machine.\n".to_owned(), toml_string(&format!("redis+unix://{path}"))))
    })?;
    Some(format!("\n{note}[redis.cache]\nurl = {url}\n"))
}

/// The first variable that holds a URL of these schemes, and a note on the others.
fn variable(surroundings: &dyn Surroundings, names: &[&str], schemes: &[&str]) -> Option<(String, String)> {
    let fits = |name: &&&str| {
        let value = surroundings.env(name).unwrap_or_default();
        schemes.iter().any(|scheme| value.starts_with(scheme))
    };
    let mut fitting = names.iter().filter(fits);
    let first = fitting.next()?;
    let others: Vec<_> =
        fitting.filter(|name| surroundings.env(name) != surroundings.env(first)).copied().collect();
    let note = match others.as_slice() {
        [] => String::new(),
        others => format!("# {} is set as well, to something else.\n", others.join(", ")),
    };
    Some((note, format!("{{ env = {} }}", toml_string(first))))
}

/// The variables of libpq as a URL.
fn pg_variables(surroundings: &dyn Surroundings) -> Option<(String, String)> {
    let set = |name: &str| surroundings.env(name).filter(|value| !value.is_empty());
    let host = set("PGHOST")?;
    let mut note = String::new();
    let part = |name: &str, before: &str| set(name).map_or(String::new(), |_| format!("{before}${{{name}}}"));
    let password = match set("PGPASSWORD") {
        // In a URL these would end the password, or mean something else.
        Some(password) if !password.chars().all(is_unreserved) => {
            note = "# PGPASSWORD has characters that a URL must percent-encode: put the whole URL into a\n\
                    # variable, and here url = { env = \"DATABASE_URL\" }; or the password, encoded, into one.\n"
                .to_owned();
            String::new()
        }
        Some(_) => ":${PGPASSWORD}".to_owned(),
        None => String::new(),
    };
    let user = set("PGUSER").map_or(String::new(), |_| format!("${{PGUSER}}{password}@"));
    let database = part("PGDATABASE", "/");
    let url = if host.starts_with('/') {
        let port = part("PGPORT", "&port=");
        let database = if database.is_empty() { "/".to_owned() } else { database };
        format!("postgres://{user}{database}?host=${{PGHOST}}{port}")
    } else {
        format!("postgres://{user}${{PGHOST}}{}{database}", part("PGPORT", ":"))
    };
    Some((note, toml_string(&url)))
}

fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~".contains(c)
}

fn postgres_socket(surroundings: &dyn Surroundings) -> Option<(String, String)> {
    let directory =
        POSTGRES_SOCKETS.iter().find(|path| surroundings.exists(&Path::new(path).join(".s.PGSQL.5432")))?;
    let url = format!("postgres:///postgres?host={directory}");
    Some(("# A server on this machine, as the user that runs ops.\n".to_owned(), toml_string(&url)))
}
