//! A row whose decoding errors are ours: a column that is missing or of another type is a bug in the probe.

use ops_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgRow, PgValueRef, Postgres};
use sqlx::{Column as _, Row as _, TypeInfo as _, ValueRef as _};

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

    /// Each column's name with its value as text, numbers and all; null is `None`.
    pub(crate) fn columns(&self) -> Vec<(String, String, Option<PgValueRef<'_>>)> {
        self.0
            .columns()
            .iter()
            .map(|column| {
                let value = self.0.try_get_raw(column.ordinal()).ok().filter(|value| !value.is_null());
                (column.name().to_owned(), column.type_info().name().to_owned(), value)
            })
            .collect()
    }
}

fn decode_error(column: &str, error: &sqlx::Error) -> Error {
    Error::new(ErrorKind::Bug, "read a column").on(column).because(error.to_string())
}
