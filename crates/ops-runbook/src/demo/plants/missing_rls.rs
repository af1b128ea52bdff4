use async_trait::async_trait;
use ops_core::Result;

use super::{Plant, Site};

#[derive(Debug)]
pub(super) struct MissingRls;

#[async_trait]
impl Plant for MissingRls {
    fn name(&self) -> &'static str {
        "missing-rls"
    }

    fn story(&self) -> &'static str {
        "billing.invoices has no row security, unlike billing.accounts beside it"
    }

    fn finding(&self) -> (&'static str, Option<&'static str>) {
        ("pg.rls.disabled", Some("billing.invoices"))
    }

    async fn plant(&self, site: &mut Site) -> Result<()> {
        let mut shop = site.connect("ops demo").await?;
        let sql = "DROP POLICY own_invoices ON billing.invoices; \
                   ALTER TABLE billing.invoices DISABLE ROW LEVEL SECURITY";
        site.execute(&mut shop, sql).await
    }
}
