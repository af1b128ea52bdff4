//! The table of a pack's README against the pack's faults: no row that no fault proves, and no fault left out.

use std::collections::BTreeSet;

use super::stand::Pack;

/// `| row | asked | answered by | proved by |`: of the last two, what stands in backticks.
struct Row {
    ids: String,
    probes: BTreeSet<String>,
    faults: BTreeSet<String>,
}

pub(crate) fn agrees(pack: &Pack) {
    let readme = std::fs::read_to_string(pack.dir().join("README.md")).unwrap();
    let rows: Vec<Row> = readme.lines().filter_map(row).collect();
    assert!(!rows.is_empty(), "{}: no table", pack.name);
    let faults = (pack.faults)();
    let mut proved = BTreeSet::new();
    for row in &rows {
        let mut by = BTreeSet::new();
        assert!(!row.faults.is_empty(), "{}, {}: nothing proves it", pack.name, row.ids);
        for name in &row.faults {
            let fault = faults.iter().find(|fault| fault.name == name);
            let fault = fault.unwrap_or_else(|| panic!("{}, {}: no fault {name:?}", pack.name, row.ids));
            by.extend(fault.expected.iter().map(|(probe, _)| (*probe).to_owned()));
            proved.insert(fault.name);
        }
        assert_eq!(row.probes, by, "{}, {}: its probes, and what its faults make alarm", pack.name, row.ids);
    }
    let named: BTreeSet<_> = faults.iter().map(|fault| fault.name).collect();
    assert_eq!(named.len(), faults.len(), "{}: two faults of one name", pack.name);
    assert_eq!(proved, named, "{}: faults in the README, and in the test", pack.name);
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [ids, _, probes, faults] = cells[..] else { return None };
    let head = ids == "Row" || ids.starts_with("---");
    (!head).then(|| Row { ids: ids.to_owned(), probes: quoted(probes), faults: quoted(faults) })
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What is no row is left out, and what is one is read as a whole.
#[test]
fn a_row_is_read_by_its_cells() {
    let read = row("| EE-1 | growth | `pg.size`, `metric.rows` | `too-large` |").unwrap();
    assert_eq!(read.ids, "EE-1");
    assert_eq!(read.probes, ["metric.rows".to_owned(), "pg.size".to_owned()].into());
    assert_eq!(read.faults, ["too-large".to_owned()].into());
    assert!(
        row("| Row | a | b | c |").is_none() && row("|---|---|---|---|").is_none() && row("text").is_none()
    );
}

#[test]
fn every_pack_is_tried() {
    use super::{analytics, elaro, engagement_deployment, engagement_events, pggit};
    let packs =
        [analytics::PACK, elaro::PACK, engagement_deployment::PACK, engagement_events::PACK, pggit::PACK];
    let dirs = std::fs::read_dir(packs[0].dir().parent().unwrap()).unwrap();
    let there: BTreeSet<_> = dirs.map(|dir| dir.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, packs.map(|pack| pack.name.to_owned()).into());
}
