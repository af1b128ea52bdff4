//! Where the lines of a text begin, found once: a file may have a mistake on each of them.

/// A text, and where its lines begin.
#[derive(Debug)]
pub(super) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Line and column, both from 1; beyond the end, those of the end.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let line = self.line(at);
        (line, self.text[self.starts[line - 1]..at].chars().count() + 1)
    }

    /// Where the line begins that `at` is on.
    pub(super) fn start(&self, at: usize) -> usize {
        self.starts[self.line(at) - 1]
    }

    fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_as_counting_from_the_top_finds_them() {
        for text in ["", "\n", "a", "a\n", "\n\na = 1\r\nb = \"ż🦀\"\n\n# end", "ż\n🦀x\n"] {
            let lines = Lines::of(text);
            for at in 0..=text.len() + 2 {
                let before = &text[..text.floor_char_boundary(at)];
                let line = before.matches('\n').count() + 1;
                let start = before.rfind('\n').map_or(0, |newline| newline + 1);
                assert_eq!(lines.position(at), (line, before[start..].chars().count() + 1), "{text:?} {at}");
                assert_eq!(lines.start(at), start, "{text:?} {at}");
            }
        }
    }
}
