//! What is wrong with a file: each mistake with its place.

use std::fmt;
use std::path::PathBuf;

/// One mistake, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong. It names keys and expectations, and never repeats a value.
    pub message: String,
    /// What would help.
    pub help: Option<String>,
    /// The line itself with its values masked, and a caret under the place.
    pub(super) excerpt: Option<Excerpt>,
}

/// A masked line, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) line: String,
    pub(super) indent: String,
    pub(super) width: usize,
}

/// Every mistake in a configuration, in the order of its lines.
///
/// ```
/// use std::path::Path;
/// use ops_runbook::config::{Config, GivenSurroundings};
/// let text = "[postgres.main]\nurl = \"postgres:///shop\"\ndatabse = [\"shop\"]\n";
/// let errors = Config::read(text, Path::new("ops.toml"), &GivenSurroundings::default()).unwrap_err();
/// assert_eq!((errors.mistakes[0].line, errors.mistakes[0].column), (3, 1));
/// assert!(errors.to_string().starts_with(
///     "ops.toml:3:1: unknown key `databse` in [postgres.main]; did you mean `databases`?"
/// ));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// Its mistakes; never empty.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        if let Some(excerpt) = &self.excerpt {
            let gutter = self.line.to_string().len().max(4);
            write!(f, "\n{:gutter$} | {}", self.line, excerpt.line)?;
            write!(f, "\n{:gutter$} | {}{}", "", excerpt.indent, "^".repeat(excerpt.width))?;
        }
        Ok(())
    }
}

/// `FILE:LINE:COLUMN: what is wrong; what would help`, one mistake after the other.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            let break_before = if index == 0 { "" } else { "\n" };
            write!(f, "{break_before}{}:{mistake}", self.path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for ops_core::Error {
    fn from(errors: ConfigErrors) -> Self {
        let mistakes = ops_core::words::count(errors.mistakes.len() as f64, "mistake", "mistakes");
        ops_core::Error::new(ops_core::ErrorKind::Configuration, "read the configuration")
            .on(errors.path.to_string_lossy())
            .because(mistakes)
            .caused_by(errors)
    }
}
