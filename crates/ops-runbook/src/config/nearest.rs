//! The word that was probably meant.

/// The candidate nearest to `word`, if any is near enough to be worth naming: one spelt alike, one that ends
/// in `.word` (a probe without its family), or one a few keystrokes away.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    // As rustc has it: a third of the word may be wrong.
    let tolerance = folded.chars().count().div_ceil(3).max(1);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = fold(candidate);
            let distance = if other == folded || other.ends_with(&format!(".{folded}")) {
                0
            } else {
                strsim::damerau_levenshtein(&folded, &other)
            };
            (distance <= tolerance).then_some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", where something is near.
pub(super) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|near| format!("did you mean `{near}`?"))
}

fn fold(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_named_and_what_is_not_is_not() {
        let known = ["databases", "url", "root_certificate", "pg.connections", "pg.blocking"];
        for (word, expected) in [
            ("databse", Some("databases")),
            ("root-certificate", Some("root_certificate")),
            ("connections", Some("pg.connections")),
            ("pg.conections", Some("pg.connections")),
            ("URL", Some("url")),
            ("password", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
