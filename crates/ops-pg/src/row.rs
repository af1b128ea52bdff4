//! A row whose decoding errors are ours: a column that is missing or of another type is a bug in the probe.

use ops_core::{Error, ErrorKind, Result};
use sqlx::Row as _;
use sqlx::postgres::{PgRow, Postgres};

/// A row of a probe's query.
#[derive(Debug)]
pub struct Row(pub(crate) PgRow);

impl Row {
    /// The value of a column; `Option<T>` where it can be null.
    ///
    /// # Errors
    /// `Bug` when there is no such column, or it is of another type.
    pub fn get<'r, T>(&'r self, column: &str) -> Result<T>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        self.0.try_get(column).map_err(|error| decode_error(column, &error))
    }
}

fn decode_error(column: &str, error: &sqlx::Error) -> Error {
    Error::new(ErrorKind::Bug, "read a column").on(column).because(error.to_string())
}
