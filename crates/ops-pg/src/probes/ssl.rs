//! `pg.ssl`: who talks to the server in the clear.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ops_core::{
    Context, Direction, Explanation, Finding, Limits, Measurement, ProbeReport, ProbeSpec, Remedy,
    Requirement, Result, Severity, ThresholdSpec, Unit,
};
use serde_json::json;

use super::words::counted;
use crate::probe::{PgProbe, Scope};
use crate::provider::Managed;
use crate::target::{Certificate, LISTENS, PgTarget};

/// Serves PostgreSQL 14 and later. Sessions from other hosts: not over the socket, not over the loopback. GSSAPI
/// can encrypt, too. One row at least, so that the setting is known where there is no session.
const SQL: &str = "
SELECT current_setting('ssl') = 'on' AS ssl, p.role, p.client, p.application, p.encrypted,
       coalesce(p.sessions, 0) AS sessions
  FROM (SELECT 1) one LEFT JOIN (
    SELECT a.usename::text AS role, host(a.client_addr) AS client, max(a.application_name) AS application,
           coalesce(s.ssl, false) OR coalesce(g.encrypted, false) AS encrypted, count(*) AS sessions
      FROM pg_stat_activity a
      LEFT JOIN pg_stat_ssl s ON s.pid = a.pid
      LEFT JOIN pg_stat_gssapi g ON g.pid = a.pid
     WHERE a.backend_type IN ('client backend', 'walsender')
       AND NOT (a.client_addr <<= '127.0.0.0/8' OR a.client_addr <<= '::1/128' OR a.client_addr <<= '::ffff:127.0.0.0/104')
       AND a.pid <> pg_backend_pid()
       AND (a.application_name ~ '^ops:([0-9a-f]{12}|listen|cancel)$' AND a.usename = current_user) IS NOT TRUE
     GROUP BY 1, 2, 4) p ON true
 ORDER BY p.sessions DESC NULLS LAST, p.role, p.client LIMIT 200";

static SPEC: ProbeSpec = ProbeSpec {
    name: "pg.ssl",
    group: "security",
    explanation: Explanation {
        why: "Without TLS, everybody on the way reads every row, and with older methods of authentication the \
              password too.",
        measures: "Whether the server offers TLS, and which roles have sessions from other hosts that use neither \
                   TLS nor GSSAPI encryption. Sessions over the Unix socket or the loopback are left out. And \
                   the days until the certificate expires that is shown at the URL's address, which may be a \
                   pooler's; where that is the server's own Unix socket, at an address in listen_addresses. Unknown \
                   where TLS is on and none is seen: of a service's own pool, beside which nothing is connected, and \
                   behind a pooler that offers none.",
        queries: &[
            ("the setting, and sessions from other hosts", SQL),
            ("over a Unix socket: where the server listens", LISTENS),
        ],
        codes: &[
            ("pg.ssl.off", "the server offers no TLS, and has clients on other hosts"),
            ("pg.ssl.plain", "a role has sessions from other hosts without encryption"),
            ("pg.ssl.certificate", "the certificate expires soon, or has: clients that check it are refused"),
        ],
        versions: "PostgreSQL 14 and later",
        cost: "one read of pg_stat_activity, and a connection for a TLS handshake, on which nobody logs in",
        remedy: "Give the server a certificate and set ssl = on (a reload is enough), have clients use \
                 sslmode=verify-full, then turn `host` into `hostssl` in pg_hba.conf so that nobody falls back.",
    },
    thresholds: &[ThresholdSpec {
        name: "certificate",
        meaning: "days until the certificate expires",
        unit: Unit::Count,
        direction: Direction::Below,
        warning: Some(21.0),
        critical: Some(7.0),
        source: "as http.endpoint's: ACME clients renew 30 days before the end, and at 21 they have failed for a week; \
                 7 leaves a week of work to do it by hand",
    }],
    requires: &[Requirement::Role("pg_read_all_stats")],
};

#[derive(Debug)]
pub(super) struct Ssl;

#[async_trait]
impl PgProbe for Ssl {
    fn spec(&self) -> &'static ProbeSpec {
        &SPEC
    }

    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    async fn probe(&self, cx: &Context, pg: &PgTarget, limits: &Limits) -> Result<ProbeReport> {
        let (offered, remote) = sessions(cx, pg).await?;
        let managed = pg.capabilities(cx).await?.managed();
        let report = judge(offered, &remote, pg.address(), managed);
        if offered { certificate(cx, pg, report, limits).await } else { Ok(report) }
    }
}

/// Whether TLS is on, and who comes from other hosts.
async fn sessions(cx: &Context, pg: &PgTarget) -> Result<(bool, Vec<Remote>)> {
    let (mut offered, mut remote) = (false, Vec::new());
    for row in &pg.read(cx, SQL).await? {
        offered = row.get("ssl")?;
        if let Some(encrypted) = row.get::<Option<bool>>("encrypted")? {
            remote.push(Remote {
                role: row.get::<Option<String>>("role")?.unwrap_or_default(),
                client: row.get("client")?,
                application: row.get::<Option<String>>("application")?.unwrap_or_default(),
                encrypted,
                sessions: row.get("sessions")?,
            });
        }
    }
    Ok((offered, remote))
}

/// Adds when the certificate ends, or why nobody knows.
async fn certificate(
    cx: &Context,
    pg: &PgTarget,
    report: ProbeReport,
    limits: &Limits,
) -> Result<ProbeReport> {
    let (why, fix) = match pg.certificate(cx).await {
        Ok(Certificate::Ends(ends)) => return Ok(certified(report, ends, cx.now(), limits, pg.address())),
        Ok(Certificate::ShownToNobody) => return Ok(report),
        Ok(Certificate::Unseen(why)) => (why, None),
        Err(error) => (error.report(), error.fix().map(str::to_owned)),
    };
    let by_host = || "ops check --only pg.ssl --postgres postgres://USER@HOST:PORT/DATABASE".to_owned();
    Ok(report.unseen(format!("when the certificate expires: {why}"), Some(fix.unwrap_or_else(by_host))))
}

/// Sessions of one role from one other host.
struct Remote {
    role: String,
    client: String,
    application: String,
    encrypted: bool,
    sessions: i64,
}

fn judge(offered: bool, remote: &[Remote], server: &str, managed: Option<&Managed>) -> ProbeReport {
    let sum = |encrypted: bool| -> i64 {
        remote.iter().filter(|r| r.encrypted == encrypted).map(|remote| remote.sessions).sum()
    };
    let (plain, encrypted) = (sum(false), sum(true));
    let sessions = |n: i64| counted(usize::try_from(n).unwrap_or(0), "session", "sessions");
    let summary = match (offered, plain) {
        (true, 0) => format!("TLS is on; {} from other hosts, all encrypted", sessions(encrypted)),
        (false, 0) => "TLS is off, and no client is on another host".to_owned(),
        (true, _) => format!("TLS is on; {} from other hosts without it", sessions(plain)),
        (false, _) => format!("TLS is off; {} from other hosts", sessions(plain)),
    };
    let off = (!offered && plain > 0).then(|| {
        Finding::warning(
            "pg.ssl.off",
            format!("the server offers no TLS and has {} from other hosts", sessions(plain)),
        )
        .object(server)
        .remedy(Remedy::advice(match managed {
            Some(managed) => {
                format!("switch ssl on in {}; the certificate is the provider's", managed.settings)
            }
            None => "set ssl_cert_file, ssl_key_file and ssl = on, then SELECT pg_reload_conf()".to_owned(),
        }))
    });
    let mut roles: Vec<&str> = remote.iter().filter(|r| !r.encrypted).map(|r| r.role.as_str()).collect();
    roles.sort_unstable();
    roles.dedup();
    ProbeReport::new(summary)
        .measure(Measurement::new("plain", plain as f64, Unit::Count))
        .measure(Measurement::new("encrypted", encrypted as f64, Unit::Count))
        .findings(off)
        .findings(roles.into_iter().map(|role| in_the_clear(role, remote, managed)))
}

fn certified(
    report: ProbeReport,
    ends: DateTime<Utc>,
    now: DateTime<Utc>,
    limits: &Limits,
    server: &str,
) -> ProbeReport {
    let days = (ends - now).num_seconds() as f64 / 86_400.0;
    let left = Measurement::new("certificate_days", days, Unit::Count).judged_by(limits.get("certificate"));
    let finding = Severity::of(left.status()).map(|severity| {
        let (day, whole) = (ends.format("%Y-%m-%d"), counted(days.abs().floor() as usize, "day", "days"));
        let message = match days > 0.0 {
            true => format!("the server's certificate expires in {whole}, on {day}"),
            false => format!(
                "the server's certificate expired {whole} ago, on {day}: clients that check it are refused"
            ),
        };
        Finding::new(severity, "pg.ssl.certificate", message)
            .object(server)
            .evidence(json!({ "not_after": ends }))
            .remedy(
                Remedy::statement("SELECT pg_reload_conf();")
                    .because("once the new certificate is in ssl_cert_file: the server reads it again"),
            )
    });
    report.measure(left).findings(finding)
}

fn in_the_clear(role: &str, remote: &[Remote], managed: Option<&Managed>) -> Finding {
    let rows: Vec<_> = remote.iter().filter(|r| !r.encrypted && r.role == role).collect();
    let sessions: i64 = rows.iter().map(|row| row.sessions).sum();
    let from = match rows.as_slice() {
        [one] => one.client.clone(),
        several => format!("{} hosts", several.len()),
    };
    let sessions = counted(usize::try_from(sessions).unwrap_or(0), "session", "sessions");
    let finding =
        Finding::warning("pg.ssl.plain", format!("{role} has {sessions} from {from} without encryption"))
            .object(role)
            .remedy(Remedy::advice(match managed {
                Some(managed) => format!(
                    "let its URL say sslmode=verify-full, then have {} require TLS of everybody",
                    managed.title
                ),
                None => "let its URL say sslmode=verify-full, then allow it by hostssl only".to_owned(),
            }));
    rows.iter().fold(finding, |finding, row| {
        finding.evidence(json!({
            "role": row.role, "client": row.client, "application": row.application, "sessions": row.sessions,
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ops_core::Status;

    #[test]
    fn a_server_without_tls_is_fine_until_somebody_comes_from_elsewhere() {
        let remote = |encrypted| Remote {
            role: "app".into(),
            client: "10.0.0.7".into(),
            application: String::new(),
            encrypted,
            sessions: 2,
        };
        for (offered, remote, expected) in [
            (false, vec![], Status::Ok),
            (true, vec![], Status::Ok),
            (true, vec![remote(true)], Status::Ok),
            (true, vec![remote(true), remote(false)], Status::Warning),
            (false, vec![remote(false)], Status::Warning),
            // Encrypted by GSSAPI.
            (false, vec![remote(true)], Status::Ok),
        ] {
            assert_eq!(judge(offered, &remote, "db:5432", None).status(), expected);
        }
    }
}
