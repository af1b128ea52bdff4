use super::Row;

pub(crate) fn rows() -> Vec<Row> {
    vec![]
}
