//! Each kind of mistake, and many at once.

use super::mistakes;

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = r#"servce = "shop"

[check]
timeout = 30

[postgres.main]
url = { env = "DATABSE_URL" }
databse = ["shop"]

[postgre.replica]
url = "postgres://replica/shop"

[redis.main]
url = "http://ops:hunter2@cache:6379"

[[metric]]
name = "orders_stuck"
target = "mian"
sql = "SELECT 1.0 AS value"
unit = "hours"
warning = 20
critical = 10

[thresholds."pg.conections"]
used = 70

[thresholds."pg.connections"]
used = { warning = 95 }
usd = { critical = 90 }

[thresholds."redis.reachable"]
latency = "5MiB"

[[alert]]
name = "later"
"#;
    insta::assert_snapshot!(mistakes(text));
}

/// The head of a file in which only what follows can be wrong.
const MAIN: &str = "[postgres.main]\nurl = \"postgres:///shop\"\n";

#[track_caller]
fn assert_mistake(text: &str, expected: &str) {
    let text = format!("{MAIN}{text}");
    let shown = mistakes(&text);
    let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("ops.toml:")).collect();
    assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{text}\n{shown}");
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, expected) in [
        (
            "databse = [\"shop\"]",
            "ops.toml:3:1: unknown key `databse` in [postgres.main]; did you mean `databases`?",
        ),
        (
            "provder = \"rds\"",
            "ops.toml:3:1: unknown key `provder` in [postgres.main]; did you mean `provider`?",
        ),
        (
            "rls = { schema = [\"public\"] }",
            "ops.toml:3:9: unknown key `schema` in `rls` in [postgres.main]; did you mean `schemas`?",
        ),
        (
            "rls.schema = [\"public\"]",
            "ops.toml:3:5: unknown key `schema` in `rls` in [postgres.main]; did you mean `schemas`?",
        ),
        (
            "[postgres.main.rls]\ntable = []",
            "ops.toml:4:1: unknown key `table` in [postgres.main.rls]; did you mean `tables`?",
        ),
        (
            "[host.db]\nmounted = []\nzzz = 1",
            "ops.toml:4:1: unknown key `mounted` in [host.db]; did you mean `mounts`?\n\
             ops.toml:5:1: unknown key `zzz` in [host.db]; known are `heartbeats`, `logs`, `mounts`, `processes`, \
             `services`, `timers`",
        ),
        ("[chek]\ntimeout = \"5s\"", "ops.toml:3:2: unknown section [chek]; did you mean `check`?"),
        ("[[metrics]]\nname = \"x\"", "ops.toml:3:3: unknown section [[metrics]]; did you mean `metric`?"),
        (
            "[[alert]]\nname = \"x\"",
            "ops.toml:3:3: unknown section [[alert]]; known are `check`, `host`, `http`, `metric`, `postgres`, `redis`, \
             `service`, `state`, `thresholds`",
        ),
        (
            "[redis.\"my cache\"]\nurl = \"redis://cache\"",
            "ops.toml:3:8: `my cache` cannot be a name; a name has letters, digits, `_` and `-`, and begins with a \
             letter or digit",
        ),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn wrong_types_name_both() {
    for (text, expected) in [
        (
            "databases = \"shop\"",
            "ops.toml:3:13: `databases` in [postgres.main]: expected an array of names, or \"all\", found a string",
        ),
        (
            "databases = [\"a\", 2, \"c\", 4]",
            "ops.toml:3:19: `databases[1]` in [postgres.main]: expected a string, found an integer\n\
             ops.toml:3:27: `databases[3]` in [postgres.main]: expected a string, found an integer",
        ),
        (
            "root_certificate = 1979-05-27",
            "ops.toml:3:20: `root_certificate` in [postgres.main]: expected a string, found a date or time",
        ),
        (
            "[check]\ntimeout = 30\nprobe_timeout = \"5m\"",
            "ops.toml:4:11: `timeout` in [check]: expected a duration such as \"5s\", found an integer\n\
             ops.toml:5:17: `probe_timeout` in [check]: expected a duration such as \"5s\"",
        ),
        (
            "[metric]\nname = \"x\"",
            "ops.toml:3:1: [metric]: expected [[metric]] sections, with two brackets, found a table",
        ),
        ("[redis]\ncache = 1", "ops.toml:4:9: `cache` in [redis]: expected a table, found an integer"),
        (
            "[http.api]\nurl = \"http://api\"\nstatus = inf",
            "ops.toml:5:10: `status` in [http.api]: expected a whole number, found a number that is not finite",
        ),
        (
            "[http.api]\nurl = \"http://api\"\njson = { \"/at\" = 1979-05-27 }",
            "ops.toml:5:18: `json.\"/at\"` in [http.api]: a date or time cannot stand here",
        ),
        (
            "[http.api]\nurl = \"http://api\"\nredirects = 99999999999999999999",
            "ops.toml:5:13: `redirects` in [http.api]: expected a whole number, found an integer beyond 64 bits",
        ),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn secrets_are_three_things() {
    for (text, expected) in [
        (
            "[redis.a]\nurl = 5",
            "ops.toml:4:7: `url` in [redis.a]: expected a string, { env = \"NAME\" } or { file = \"PATH\" }, found an integer",
        ),
        ("[redis.a]\nurl = \"\"", "ops.toml:4:7: `url` in [redis.a]: must not be empty"),
        (
            "[redis.a]\nurl = { evn = \"A\" }",
            "ops.toml:4:9: unknown key `evn` in `url` in [redis.a]; did you mean `env`?",
        ),
        (
            "[redis.a]\nurl = { env = \"HOME\", file = \"x\" }",
            "ops.toml:4:7: `url` in [redis.a]: takes one key only",
        ),
        ("[redis.a]\nurl = {}", "ops.toml:4:7: `url` in [redis.a]: must not be empty"),
        (
            "[redis.a]\nurl = { env = \"A-B\" }",
            "ops.toml:4:15: `url.env` in [redis.a]: expected the name of an environment variable",
        ),
        (
            "[redis.a]\nurl = { env = \"UNSET\" }",
            "ops.toml:4:7: `url` in [redis.a]: the environment variable UNSET is not set",
        ),
        (
            "[redis.a]\nurl = { file = \"secrets/none\" }",
            "ops.toml:4:7: `url` in [redis.a]: secrets/none cannot be read: there is no such file",
        ),
        (
            "[redis.a]\nurl = \"redis://:${UNSET}@cache\"",
            "ops.toml:4:7: `url` in [redis.a]: the environment variable UNSET is not set",
        ),
        (
            "[redis.a]\nurl = \"redis://:${PGPASS@cache\"",
            "ops.toml:4:7: `url` in [redis.a]: `${` is not closed by `}`; `$$` stands for a dollar sign",
        ),
        ("[redis.a]\n# no URL", "ops.toml:3:1: [redis.a] has no `url`"),
        (
            "[postgres.b]\nurl = { env = \"HOME\" }",
            "ops.toml:4:7: `url` in [postgres.b] (from env HOME): it does not start with postgres:// or postgresql://; \
             postgres://USER@HOST:PORT/DATABASE, or postgres:///DATABASE?host=/socket/directory; a password with \
             special characters must be percent-encoded",
        ),
        (
            "[http.api]\nurl = \"https://u:hunter2@api\"",
            "ops.toml:4:7: `url` in [http.api]: the URL holds credentials; they belong in a header; headers = { \
             authorization = { env = \"API_AUTHORIZATION\" } }",
        ),
        (
            "[http.api]\nurl = \"https://api\"\nstatus = 20\n",
            "ops.toml:5:10: `status` in [http.api]: status 20 is none of HTTP's",
        ),
        (
            "[http.api]\nurl = \"wss://api\"\njson = { status = 1 }\ngraphql = \"mutation { x }\"\n",
            "ops.toml:4:7: `url` in [http.api]: a websocket is joined, and there is no subscription; subscription = { \
             topic = \"room:lobby\" }, or subscription = {}\n\
             ops.toml:5:19: `json.status` in [http.api]: \"status\" is no JSON pointer; \"/status\"\n\
             ops.toml:6:11: `graphql` in [http.api]: graphql must be a query: a check changes nothing; graphql = \"{ \
             __typename }\"",
        ),
        (
            "[host.db]\nprocesses = [{ name = \"postgres\" }, { name = \"/usr/bin/redis-server\" }]\nservices = [\"a\", \"-b\"]\n\
             logs = [{ window = \"1h\" }, { file = \"/x\", patterns = [{ name = \"a\", regex = \"(\" }] }]\n\
             heartbeats = { directory = \"x\", jobs = { \"a b\" = { every = \"1d\" } } }\n",
            "ops.toml:4:46: `processes[1].name` in [host.db]: \"/usr/bin/redis-server\" is a path: a process goes by its \
             program's name alone; name = \"redis-server\"\n\
             ops.toml:5:18: `services[1]` in [host.db]: \"-b\" is no name of a systemd unit\n\
             ops.toml:6:9: `logs[0]` in [host.db]: a log is either a file or a journal\n\
             ops.toml:6:77: `logs[1].patterns[0].regex` in [host.db]: it is no regular expression: unclosed group\n\
             ops.toml:7:28: `heartbeats.directory` in [host.db]: x is not absolute: jobs and ops start elsewhere\n\
             ops.toml:7:50: `heartbeats.jobs.\"a b\"` in [host.db]: \"a b\" cannot be a job's name: letters, digits, `-`, \
             `_` and `.`",
        ),
        (
            "[host.db]\nlogs = [{ file = \"/x\", window = \"0s\", patterns = [{ name = \"a\", regex = \"a\", warning = 9, \
             critical = 2 }, { name = \"b\", regex = \"b\", critical = 0 }] }]\n\
             heartbeats = { directory = \"/x\", jobs = { backup = { every = \"0s\" } } }\n",
            "ops.toml:4:33: `logs[0].window` in [host.db]: must be more than nothing\n\
             ops.toml:4:88: `logs[0].patterns[0].warning` in [host.db]: the warning, 9, lies beyond critical, 2: warning \
             must not be above critical\n\
             ops.toml:4:145: `logs[0].patterns[1].critical` in [host.db]: a log always has that many lines: from one on, a \
             pattern is told of; critical = 1\n\
             ops.toml:5:62: `heartbeats.jobs.backup.every` in [host.db]: must be more than nothing",
        ),
        (
            "[http.api]\nurl = \"https://api\"\nheaders = { \"a b\" = \"c\" }\n",
            "ops.toml:5:21: `headers.\"a b\"` in [http.api]: \"a b\" is no header name",
        ),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn names_and_references_are_checked() {
    for (text, expected) in [
        (
            "[redis.main]\nurl = \"redis://cache\"",
            "ops.toml:3:8: the name `main` is taken by [postgres.main] on line 1; a target's name is unique among all kinds",
        ),
        (
            "[[metric]]\nname = \"a\"\ntarget = \"mian\"\nsql = \"SELECT 1\"\n[[metric]]\nname = \"a\"\ntarget = \"main\"\nsql = \" \"",
            "ops.toml:5:10: `target` in [[metric]]: there is no such [postgres.NAME]; did you mean `main`?\n\
             ops.toml:8:8: `name` in [[metric]]: the name is taken by the metric on line 4\n\
             ops.toml:10:7: `sql` in [[metric]]: must not be empty",
        ),
        (
            "[host.db]\n[[metric]]\nname = \"a b\"\ntarget = \"db\"\nsql = \"SELECT 1\"",
            "ops.toml:5:8: `name` in [[metric]]: a name has letters, digits, `_` and `-`\n\
             ops.toml:6:10: `target` in [[metric]]: [host.db] is no PostgreSQL; there is `main`",
        ),
        ("[[metric]]\nname = \"a\"\ntarget = \"main\"", "ops.toml:3:1: [[metric]] has no `sql`"),
        (
            "[[metric]]\nname = \"a\"\ntarget = \"main\"\nsql = \"SELECT 1\"\nunit = \"second\"\ndirection = \"below\"\nwarning = 1\ncritical = 2",
            "ops.toml:7:8: `unit` in [[metric]]: expected one of \"percent\", \"bytes\", \"seconds\", \"milliseconds\", \
             \"count\", \"per_second\", \"per_hour\", \"bytes_per_second\", \"bytes_per_hour\", \"bytes_per_day\", \"ratio\"; did you mean `seconds`?\n\
             ops.toml:9:11: `warning` in [[metric]]: the warning, 1, lies beyond critical, 2; low values are trouble here: \
             warning must not be below critical",
        ),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn thresholds_are_those_of_the_probes() {
    for (text, expected) in [
        (
            "[thresholds.\"pg.conections\"]\nused = 1",
            "ops.toml:3:13: there is no probe `pg.conections`; did you mean `pg.connections`?",
        ),
        (
            "[thresholds.pg.connections]\nused = 1",
            "ops.toml:3:13: there is no probe `pg`; quote the name: [thresholds.\"pg.connections\"]",
        ),
        (
            "[thresholds.connections]\nused = 1",
            "ops.toml:3:13: there is no probe `connections`; did you mean `pg.connections`?",
        ),
        (
            "[thresholds.\"metric.a\"]\nused = 1",
            "ops.toml:3:13: there is no probe `metric.a`; the bounds of a metric stand in its [[metric]] section",
        ),
        (
            "[thresholds.nonsense]\nused = 1",
            "ops.toml:3:13: there is no probe `nonsense`; `ops explain` lists them",
        ),
        (
            "[thresholds.\"pg.connections\"]\nusde = 1",
            "ops.toml:4:1: pg.connections has no threshold `usde`; did you mean `used`?",
        ),
        (
            "[thresholds.\"pg.connections\"]\nused = { wrning = 1 }",
            "ops.toml:4:10: unknown key `wrning` in `used` in [thresholds.\"pg.connections\"]; did you mean `warning`?",
        ),
        (
            "[thresholds.\"pg.connections\"]\nused = \"70 %\"",
            "ops.toml:4:8: `used` in [thresholds.\"pg.connections\"]: expected a percentage, as a number from 0 to 100, or \
             { warning = …, critical = … }, found a string",
        ),
        (
            "[thresholds.\"pg.connections\"]\nused = 700",
            "ops.toml:4:8: `used` in [thresholds.\"pg.connections\"]: expected a percentage, as a number from 0 to 100",
        ),
        (
            "[thresholds.\"pg.connections\"]\nused = { warning = \"5s\" }",
            "ops.toml:4:20: `used.warning` in [thresholds.\"pg.connections\"]: expected a percentage, as a number from 0 to \
             100, found a string",
        ),
        (
            "[thresholds.\"pg.connections\"]\nused = { warning = 90, critical = 80 }",
            "ops.toml:4:8: `used` in [thresholds.\"pg.connections\"]: the warning, 90 %, lies beyond critical, 80 %; high values \
             are trouble here: warning must not be above critical",
        ),
        (
            "[thresholds.\"pg.connections\"]\nused = 95",
            "ops.toml:4:8: `used` in [thresholds.\"pg.connections\"]: the warning, 95 %, lies beyond critical, 90 % by default; \
             high values are trouble here: warning must not be above critical",
        ),
        (
            "[thresholds.\"redis.reachable\"]\nlatency = { warning = \"5MiB\", critical = 7 }",
            "ops.toml:4:23: `latency.warning` in [thresholds.\"redis.reachable\"]: expected a duration such as \"5s\"\n\
             ops.toml:4:42: `latency.critical` in [thresholds.\"redis.reachable\"]: expected a duration such as \"5s\", found \
             an integer",
        ),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn timeouts_make_sense() {
    for (text, expected) in [
        (
            "[check]\ntimeout = \"3s\"\nprobe_timeout = \"5s\"",
            "ops.toml:5:17: `probe_timeout` in [check]: one probe may take longer than the whole run, by `timeout`",
        ),
        ("[check]\ntimeout = \"0s\"", "ops.toml:4:11: `timeout` in [check]: must be more than nothing"),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn syntax_is_reported_with_all_that_is_certain() {
    for (text, expected) in [
        (
            "databse = []\nrls = \n[redis.a]\nurl = \"redis://a\nurk = 1\n[redis.b]\nurl = redis://u:hunter2@b\ncert = 1",
            "ops.toml:3:1: unknown key `databse` in [postgres.main]; did you mean `databases`?\n\
             ops.toml:4:7: there is no value after `=`\n\
             ops.toml:6:17: invalid basic string, expected `\"`\n\
             ops.toml:7:1: unknown key `urk` in [redis.a]; did you mean `url`?\n\
             ops.toml:9:7: text must be quoted\n\
             ops.toml:10:1: unknown key `cert` in [redis.b]; known are `root_certificate`, `url`",
        ),
        // A key given twice: the section is known to lack its URL.
        (
            "url = \"postgres:///b\"\n[redis.a]\nurk = 1",
            "ops.toml:3:1: `url` is given twice\nops.toml:4:1: [redis.a] has no `url`\n\
             ops.toml:5:1: unknown key `urk` in [redis.a]; did you mean `url`?",
        ),
        // An array without an end takes in all that follows.
        (
            "databse = []\ndatabases = [\"a\"\n[redis.a]\nurk = 1",
            "ops.toml:3:1: unknown key `databse` in [postgres.main]; did you mean `databases`?\n\
             ops.toml:4:13: what begins here does not end: there is a bracket to close",
        ),
        (
            "databases = [\"a\" \"b\"]\n[redis.a]\nurk = 1",
            "ops.toml:3:18: missing comma between array elements, expected `,`\n\
             ops.toml:5:1: unknown key `urk` in [redis.a]; did you mean `url`?",
        ),
        (
            "root_certificate = \"\"\"a\n[redis.a]\nurk = 1",
            "ops.toml:3:20: the string that begins here does not end",
        ),
        (
            "[redis.a\nurk = 1\n[redis.b]\nurk = 1",
            "ops.toml:3:9: unclosed table, expected `]`\n\
             ops.toml:6:1: unknown key `urk` in [redis.b]; did you mean `url`?",
        ),
        ("databases: [\"a\"]\n", "ops.toml:3:10: invalid unquoted key, expected letters, numbers, `-`, `_`"),
    ] {
        assert_mistake(text, expected);
    }
}

#[test]
fn values_are_hidden_in_whatever_order_their_sections_stand() {
    let section = |name: &str| format!("[postgres.{name}]\nurl = \"postgres:///shop\"\nodd = \"hunter2\"\n");
    let shown = mistakes(&["c", "a", "d", "b"].map(section).concat());
    let lines: Vec<_> = shown.lines().filter_map(|line| line.split_once(" | ")).collect();
    let expected = ["3", "6", "9", "12"].map(|number| format!("{number:>4}"));
    let expected: Vec<_> = expected.iter().flat_map(|n| [(&**n, "odd = …"), ("    ", "^^^")]).collect();
    assert_eq!(lines, expected, "{shown}");
}

#[test]
fn a_line_too_long_to_read_has_its_places_and_is_not_shown() {
    let keys: Vec<_> = (0..100).map(|n| format!("k{n} = \"hunter2\"")).collect();
    for (keys, shown) in [(&keys[..20], true), (&keys[..], false)] {
        let line = format!("rls = {{ {} }}", keys.join(", "));
        let text = format!("{MAIN}{line}\n");
        let said = mistakes(&text);
        let places: Vec<_> = said.lines().filter(|line| line.starts_with("ops.toml:")).collect();
        assert_eq!(places.len(), keys.len(), "{said}");
        for (key, place) in keys.iter().zip(places) {
            let column = line.find(&key[..key.find(' ').unwrap() + 1]).unwrap() + 1;
            assert!(place.starts_with(&format!("ops.toml:3:{column}: unknown key")), "{key}: {place}");
        }
        assert_eq!(said.contains(" | rls = { k0 = …, k1 = …"), shown, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_state_is_in_one_place_and_keeps_something() {
    for (text, expected) in [
        (
            "[state]\nfile = \"a.db\"\nurl = \"postgres://db/ops\"",
            "ops.toml:4:8: `file` in [state]: there is a url beside it: the state is in one place",
        ),
        (
            "[state]\nurl = \"redis://db/0\"",
            "ops.toml:4:7: `url` in [state]: it does not start with postgres:// or postgresql://; \
             postgres://USER@HOST:PORT/DATABASE, or postgres:///DATABASE?host=/socket/directory; a password with \
             special characters must be percent-encoded",
        ),
        ("[state]\nraw = \"1s\"", "ops.toml:4:7: `raw` in [state]: must be an hour at least"),
        (
            "[state]\nhourly = \"2d\"",
            "ops.toml:4:10: `hourly` in [state]: hourly figures go before the measurements, kept for 14d",
        ),
    ] {
        assert_mistake(text, expected);
    }
}
