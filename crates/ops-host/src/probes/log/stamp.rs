//! When a line of a log was written.

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};

/// The time at the beginning of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stamp<'a> {
    pub(super) at: DateTime<Utc>,
    /// Whether the line says how far it is from UTC. Otherwise it was taken for this machine's own time, which it is
    /// only where the log was written in its zone: EST may be any machine's.
    pub(super) is_certain: bool,
    /// What stands behind it, and behind its zone.
    pub(super) rest: &'a str,
}

/// The time at the beginning of a line: as PostgreSQL writes it (`2026-01-05 08:00:00.123 UTC`), as RFC 3339 has it,
/// or as syslog does (`Jan  5 08:00:00`, of the year that makes it lie before `now`).
pub(super) fn of_line(line: &str, now: DateTime<Utc>) -> Option<Stamp<'_>> {
    let line = line.strip_prefix("{\"timestamp\":").unwrap_or(line).trim_start_matches(['[', '"']);
    // No time begins otherwise: most lines of a statement end here.
    if !line.starts_with(|c: char| c.is_ascii_digit()) {
        return syslog(line, now);
    }
    let (time, rest) = date_and_time(line)?;
    in_zone(time, rest)
}

/// `2026-01-05 08:00:00.123`, or with a T; and what stands behind it. By hand: a log has more lines than a parser of
/// formats reads in the time.
fn date_and_time(line: &str) -> Option<(NaiveDateTime, &str)> {
    let head = line.as_bytes().get(..19)?;
    let number = |from: usize, to: usize| {
        head[from..to].iter().try_fold(0u32, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
        })
    };
    let separated = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')].iter().all(|(at, by)| head[*at] == *by);
    if !separated || !matches!(head[10], b' ' | b'T') {
        return None;
    }
    let year = i32::try_from(number(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
    // A leap second is the last one of its minute.
    let second = number(17, 19).map(|second| if second == 60 { 59 } else { second })?;
    let time = date.and_hms_opt(number(11, 13)?, number(14, 16)?, second)?;
    let rest = line.get(19..)?;
    let fraction =
        rest.strip_prefix('.').map(|digits| digits.trim_start_matches(|c: char| c.is_ascii_digit()));
    Some((time, fraction.unwrap_or(rest)))
}

fn syslog(line: &str, now: DateTime<Utc>) -> Option<Stamp<'_>> {
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
    let at = if this > now + chrono::Duration::days(1) { of(now.year() - 1)? } else { this };
    Some(Stamp { at, is_certain: false, rest: "" })
}

fn in_zone(time: NaiveDateTime, rest: &str) -> Option<Stamp<'_>> {
    let behind = rest.trim_start();
    let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
    let (zone, after) = behind.split_at(letters);
    if matches!(zone, "Z" | "UTC" | "GMT" | "UCT") {
        return Some(Stamp { at: time.and_utc(), is_certain: true, rest: after });
    }
    if let Some((offset, after)) = offset(behind) {
        let at = offset.from_local_datetime(&time).single()?.to_utc();
        return Some(Stamp { at, is_certain: true, rest: after });
    }
    // A word may be a zone, or the first of what the line says.
    Some(Stamp { at: local(time)?, is_certain: false, rest: after })
}

/// `+02`, `+02:00` or `+0200`; what a log_line_prefix has behind a colon may be an address, and no minutes.
fn offset(rest: &str) -> Option<(FixedOffset, &str)> {
    let sign = match rest.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two =
        |from: &str| from.get(..2).filter(|two| two.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let hours: i32 = two(&rest[1..])?;
    let behind = &rest[3..];
    let ends = |after: &str| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || ".:".contains(c));
    let minutes = behind.strip_prefix(':').filter(|minutes| minutes.get(2..).is_some_and(ends));
    let minutes = minutes.unwrap_or(behind);
    let (minutes, after): (i32, _) = match two(minutes) {
        Some(number) => (number, &minutes[2..]),
        None => (0, behind),
    };
    Some((FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))?, after))
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
            ("2026-13-05 08:00:00 UTC x", None),
            ("2026-01-05 08:00", None),
            ("2026-01-05 08:00:0ü UTC", None),
            ("", None),
        ] {
            let expected = expected.map(|text| DateTime::parse_from_rfc3339(text).unwrap().to_utc());
            let stamp = of_line(line, now);
            let read = stamp.map(|stamp| DateTime::from_timestamp(stamp.at.timestamp(), 0).unwrap());
            assert_eq!(read, expected, "{line}");
            assert!(stamp.is_none_or(|stamp| stamp.is_certain), "{line}");
        }
        for line in
            ["2026-01-05 08:00:00 CET [42]", "2026-01-05 08:00:00 x", "Jan  5 08:00:00 host app[1]: x"]
        {
            let stamp = of_line(line, now).unwrap();
            assert_eq!((Some(stamp.at), stamp.is_certain), (here, false), "{line}");
        }
        for (line, rest) in [
            ("2026-01-05 08:00:00.1 UTC,\"app\",", ",\"app\","),
            ("2026-01-05 08:00:00 +02,,", ",,"),
            ("2026-01-05 08:00:00 +02:10.0.0.1(5432):", ":10.0.0.1(5432):"),
            ("2026-01-05 08:00:00+05:30 x", " x"),
            ("2026-01-05 08:00:00 +0530 x", " x"),
            ("2026-01-05 08:00:00 UTC:10.0.0.1(5432):", ":10.0.0.1(5432):"),
            ("2026-01-05 08:00:00 CET\",x", "\",x"),
        ] {
            assert_eq!(of_line(line, now).unwrap().rest, rest, "{line}");
        }
        let last_year = of_line("Dec 31 23:00:00 host app: x", now).unwrap().at;
        assert!(last_year < now && now - last_year < chrono::Duration::days(7));
    }
}
