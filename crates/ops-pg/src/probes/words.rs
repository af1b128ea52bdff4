//! Figures and names as a sentence wants them.

use ops_core::Unit;

/// `1 table`, `1,200 tables`.
pub(super) fn counted(n: usize, one: &str, many: &str) -> String {
    ops_core::words::count(n as f64, one, many)
}

/// `3 days ago`, or `never`.
pub(super) fn ago(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{} ago", Unit::Seconds.format(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_nothing_is_many() {
        let tables = |n| counted(n, "table", "tables");
        assert_eq!(
            (tables(0), tables(1), tables(1200)),
            ("0 tables".into(), "1 table".into(), "1,200 tables".into())
        );
        assert_eq!((ago(None), ago(Some(240.0))), ("never".to_owned(), "4 min ago".to_owned()));
    }
}
