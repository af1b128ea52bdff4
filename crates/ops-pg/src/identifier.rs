//! Which cluster a server belongs to.

use ops_core::{Context, Result};

use crate::target::{IDENTITY, PgTarget};

impl PgTarget {
    /// The system identifier, which a primary and its standbys share, and which initdb makes anew.
    ///
    /// # Errors
    /// `PermissionDenied` where `pg_control_system` was taken from the role; those of connecting.
    pub async fn system_identifier(&self, cx: &Context) -> Result<String> {
        let rows = self.read(cx, IDENTITY).await?;
        rows.first().map_or_else(|| Ok(String::new()), |row| row.get("identity"))
    }
}
