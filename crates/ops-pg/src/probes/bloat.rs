//! How many pages rows need: what `pg.table_bloat` and `pg.index_bloat` compare with how many there are. After the
//! well-known estimates of ioguix (github.com/ioguix/pgsql-bloat-estimation), derived anew from the page layout
//! (PostgreSQL documentation, 'Database Page Layout'), column by column, so that padding counts.

use ops_core::{Error, ErrorKind, Limits, Result, Severity, Status};
use serde::Deserialize;

use crate::row::Row;

/// Tuples and their headers start at multiples of this on every 64-bit machine.
const MAXALIGN: f64 = 8.0;

/// A page's header.
pub(super) const PAGE_HEADER: f64 = 24.0;

/// The pointer that each tuple has at the page's start.
pub(super) const ITEM_POINTER: f64 = 4.0;

/// Changes since the last ANALYZE, as a share of the rows, beyond which its widths and counts say nothing: twice what
/// sets autovacuum to analyse.
const FRESH: f64 = 0.2;

/// A column, or a key of an index, as `pg_attribute` and its statistics have it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Column {
    /// `attlen`: bytes, or negative where it varies.
    length: f64,
    /// `attalign`: `c`, `s`, `i` or `d`.
    align: char,
    /// Dropped, or virtual: null in every row that is written.
    absent: bool,
    /// `None` without statistics.
    width: Option<f64>,
    nulls: Option<f64>,
    /// As `pg_statistic.stadistinct` has it.
    pub(super) distinct: Option<f64>,
}

impl Column {
    pub(super) fn nulls(&self) -> f64 {
        if self.absent { 1.0 } else { self.nulls.unwrap_or(0.0) }
    }

    /// Its width where it is not null; `None` where only statistics could tell.
    fn width(&self) -> Option<f64> {
        match self.length {
            _ if self.absent => Some(0.0),
            length if length > 0.0 => Some(length),
            _ => self.width,
        }
    }

    /// A value of up to 126 bytes has a header of one byte, and is not aligned.
    fn alignment(&self, width: f64) -> f64 {
        match self.align {
            _ if self.length < 0.0 && width < 127.0 => 1.0,
            'd' => 8.0,
            'i' => 4.0,
            's' => 2.0,
            _ => 1.0,
        }
    }
}

/// The mean bytes of the columns' values with their padding; `None` where statistics are missing.
pub(super) fn data_width(columns: &[Column]) -> Option<f64> {
    let (mut offset, mut exact) = (0.0_f64, true);
    for column in columns {
        let (width, present) = (column.width()?, 1.0 - column.nulls());
        let alignment = column.alignment(width);
        let padding = if exact { pad(offset, alignment) } else { (alignment - 1.0) / 2.0 };
        offset += present * (padding + width);
        exact &= present == 1.0 && column.length > 0.0;
    }
    Some(if exact { offset + pad(offset, MAXALIGN) } else { offset + (MAXALIGN - 1.0) / 2.0 })
}

/// The share of rows with a null, if columns are null independently of each other.
pub(super) fn any_null(columns: &[Column]) -> f64 {
    1.0 - columns.iter().map(|column| 1.0 - column.nulls()).product::<f64>()
}

pub(super) fn aligned(bytes: f64) -> f64 {
    bytes + pad(bytes, MAXALIGN)
}

fn pad(offset: f64, alignment: f64) -> f64 {
    (alignment - offset % alignment) % alignment
}

/// What both probes read of a relation.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) pages: f64,
    pub(super) rows: f64,
    pub(super) block_size: f64,
    /// As a share.
    pub(super) fill: f64,
    pub(super) columns: Vec<Column>,
    modified: f64,
    /// Of the table.
    table_rows: f64,
    analysed: bool,
}

impl Relation {
    pub(super) fn read(row: &Row) -> Result<Self> {
        let columns: String = row.get("columns")?;
        Ok(Self {
            name: row.get("name")?,
            pages: row.get("pages")?,
            rows: row.get("rows")?,
            block_size: row.get("block_size")?,
            fill: row.get::<f64>("fillfactor")? / 100.0,
            columns: serde_json::from_str(&columns)
                .map_err(|error| Error::new(ErrorKind::Bug, "read the columns").because(error.to_string()))?,
            modified: row.get("modified")?,
            table_rows: row.get("table_rows")?,
            analysed: row.get("analysed")?,
        })
    }

    pub(super) fn bytes(&self) -> f64 {
        self.pages * self.block_size
    }

    /// Whether its statistics are of the table as it is now.
    pub(super) fn is_fresh(&self) -> bool {
        self.analysed && self.modified <= FRESH * self.table_rows.max(1.0)
    }

    pub(super) fn bloat(&self, needed: f64) -> Bloat {
        let needed = needed.min(self.pages);
        Bloat {
            percent: 100.0 * (1.0 - needed / self.pages.max(1.0)),
            wasted: (self.pages - needed) * self.block_size,
        }
    }
}

/// The estimate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bloat {
    pub(super) percent: f64,
    pub(super) wasted: f64,
}

impl Bloat {
    /// By both bounds: the share, and the floor of bytes.
    pub(super) fn severity(&self, limits: &Limits) -> Option<Severity> {
        let floor = limits.get("wasted").warning.unwrap_or(0.0);
        Severity::of(if self.wasted >= floor { limits.get("bloat").judge(self.percent) } else { Status::Ok })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(length: f64, align: char, width: Option<f64>, nulls: f64) -> Column {
        Column { length, align, absent: false, width, nulls: Some(nulls), distinct: None }
    }

    #[test]
    fn padding_counts_and_short_values_have_none() {
        let (int, bigint) = (column(4.0, 'i', None, 0.0), column(8.0, 'd', None, 0.0));
        let (short, long) = (column(-1.0, 'i', Some(10.0), 0.0), column(-1.0, 'i', Some(500.0), 0.0));
        let unseen = column(-1.0, 'i', None, 0.0);
        for (columns, expected) in [
            (vec![int.clone(), bigint.clone()], Some(16.0)),
            (vec![int.clone(), bigint.clone(), int.clone(), bigint], Some(32.0)),
            (vec![int.clone(), int.clone()], Some(8.0)),
            (vec![int.clone(), short], Some(17.5)),
            (vec![int.clone(), long], Some(507.5)),
            (vec![int, unseen], None),
        ] {
            assert_eq!(data_width(&columns), expected, "{columns:?}");
        }
    }

    #[test]
    fn a_column_that_was_dropped_is_null() {
        let dropped = Column { absent: true, ..column(8.0, 'd', None, 0.0) };
        assert_eq!(any_null(&[column(4.0, 'i', None, 0.0), dropped.clone()]), 1.0);
        assert_eq!(data_width(&[dropped]), Some(3.5));
    }
}
