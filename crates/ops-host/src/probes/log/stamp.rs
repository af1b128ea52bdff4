//! When a line of a log was written.

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDateTime, Offset, TimeZone, Utc};

/// The time at the beginning of a line: as PostgreSQL writes it (`2026-01-05 08:00:00.123 UTC`), as RFC 3339 has it,
/// or as syslog does (`Jan  5 08:00:00`, of the year that makes it lie before `now`). In a zone that is not named by
/// its offset, or not at all, it is this machine's own time.
pub(super) fn of_line(line: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let line = line.strip_prefix("{\"timestamp\":").unwrap_or(line).trim_start_matches(['[', '"']);
    // No time begins otherwise: most lines of a statement end here.
    if !line.starts_with(|c: char| c.is_ascii_digit()) {
        return syslog(line, now);
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"] {
        if let Ok((time, rest)) = NaiveDateTime::parse_and_remainder(line, format) {
            return in_zone(time, rest.trim_start());
        }
    }
    None
}

fn syslog(line: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = line.get(..3)?;
    MONTHS.contains(&month).then_some(())?;
    let of = |year: i32| {
        let dated = format!("{year} {line}");
        let (time, _) = NaiveDateTime::parse_and_remainder(&dated, "%Y %b %e %H:%M:%S").ok()?;
        local(time)
    };
    let this = of(now.year())?;
    if this > now + chrono::Duration::days(1) { of(now.year() - 1) } else { Some(this) }
}

fn in_zone(time: NaiveDateTime, rest: &str) -> Option<DateTime<Utc>> {
    if rest.starts_with('Z') || rest.starts_with("UTC") || rest.starts_with("GMT") {
        return Some(time.and_utc());
    }
    match offset(rest) {
        Some(offset) => offset.from_local_datetime(&time).single().map(|time| time.to_utc()),
        None => local(time),
    }
}

/// `+02`, `+02:00` or `+0200`.
fn offset(rest: &str) -> Option<FixedOffset> {
    let sign = match rest.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = rest[1..].chars().take_while(|c| c.is_ascii_digit() || *c == ':').collect();
    let digits = digits.replace(':', "");
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4).map_or(Some(0), |minutes| minutes.parse().ok())?;
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))
}

/// Where the clock is put back an hour comes twice: the earlier one counts.
fn local(time: NaiveDateTime) -> Option<DateTime<Utc>> {
    let earliest = Local.from_local_datetime(&time).earliest()?;
    debug_assert!(earliest.offset().fix().local_minus_utc().abs() < 86_400);
    Some(earliest.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_logs_write_them() {
        let now = DateTime::parse_from_rfc3339("2026-01-05T09:00:00Z").unwrap().to_utc();
        let utc = Some("2026-01-05T08:00:00Z");
        let midday = NaiveDateTime::parse_from_str("2026-01-05 08:00:00", "%Y-%m-%d %H:%M:%S").unwrap();
        let here = local(midday);
        for (line, expected) in [
            ("2026-01-05 08:00:00.123 UTC [42] LOG:  checkpoint starting", utc),
            ("2026-01-05 08:00:00 UTC,\"app\",\"shop\",4711,", utc),
            ("{\"timestamp\":\"2026-01-05 08:00:00.000 UTC\",\"pid\":1}", utc),
            ("2026-01-05T10:00:00.5+02:00 host app: x", utc),
            ("2026-01-05 03:00:00-05 x", utc),
            ("[2026-01-05 08:00:00 GMT] x", utc),
            ("\tSELECT 1", None),
            ("2026 was a year", None),
            ("", None),
        ] {
            let expected = expected.map(|text| DateTime::parse_from_rfc3339(text).unwrap().to_utc());
            let read = of_line(line, now).map(|time| DateTime::from_timestamp(time.timestamp(), 0).unwrap());
            assert_eq!(read, expected, "{line}");
        }
        for line in
            ["2026-01-05 08:00:00 CET [42]", "2026-01-05 08:00:00 x", "Jan  5 08:00:00 host app[1]: x"]
        {
            assert_eq!(of_line(line, now), here, "{line}");
        }
        let last_year = of_line("Dec 31 23:00:00 host app: x", now).unwrap();
        assert!(last_year < now && now - last_year < chrono::Duration::days(7));
    }
}
