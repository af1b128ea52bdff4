//! Numbers as they stand before a noun.

use crate::unit::Unit;

/// `n` as an operator reads it, with the form of the noun that goes with it: `one` for 1, else `many`. A verb behind
/// the noun can be a part of both.
///
/// ```
/// use ops_core::words::count;
/// assert_eq!(count(1.0, "index repeats", "indexes repeat"), "1 index repeats");
/// assert_eq!(count(1204.0, "index repeats", "indexes repeat"), "1,204 indexes repeat");
/// ```
pub fn count(n: f64, one: &str, many: &str) -> String {
    let noun = if n == 1.0 { one } else { many };
    format!("{} {noun}", Unit::Count.format(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_one() {
        for (n, expected) in [
            (0.0, "0 keys"),
            (0.5, "0.5 keys"),
            (1.0, "1 key"),
            (-1.0, "-1 keys"),
            (2.0, "2 keys"),
            (1001.0, "1,001 keys"),
        ] {
            assert_eq!(count(n, "key", "keys"), expected);
        }
    }
}
