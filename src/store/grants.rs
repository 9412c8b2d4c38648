//! The privileges of the service's own role: everything that serving needs, but no table definitions, and nothing that
//! would change the audit log.

use super::{Store, StoreError};

/// Why no privileges were granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// The name is not valid for a role.
    #[error("`{0}` is not a valid role name: use lower-case letters, digits and `_`")]
    BadName(String),
    /// There is no such role.
    #[error("there is no role {0}: create it with `CREATE ROLE {0} LOGIN PASSWORD '…'`")]
    UnknownRole(String),
    /// The role owns the tables or is a superuser: its privileges can't be limited.
    #[error(
        "role {0} owns the tables or is a superuser, so its privileges can't be limited: use another role"
    )]
    Owner(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The role's privileges, in the schema that `{schema}` stands for.
const GRANTS: [&str; 8] = [
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "REVOKE ALL ON audit_log, deployment, _sqlx_migrations FROM {role}",
    "GRANT SELECT ON audit_log, deployment, _sqlx_migrations TO {role}",
    "GRANT INSERT ON audit_log TO {role}",
    "GRANT EXECUTE ON FUNCTION create_day_partitions(date) TO {role}",
    "GRANT EXECUTE ON FUNCTION drop_day_partition(text) TO {role}",
];

impl Store {
    /// Grants a role what `herald serve` needs, and revokes the rest. Run by the owner of the tables; idempotent.
    ///
    /// # Errors
    /// [`GrantError`]; no privileges are changed then.
    pub async fn grant_service(&self, role: &str) -> Result<(), GrantError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if role.is_empty() || role.len() > 63 || !role.chars().all(is_plain) {
            return Err(GrantError::BadName(role.to_owned()));
        }
        let mut tx = self.begin().await?;
        let found: Option<bool> = sqlx::query_scalar(
            "SELECT r.rolsuper OR r.oid = (SELECT relowner FROM pg_class WHERE oid = 'audit_log'::regclass)
             FROM pg_roles r
             WHERE r.rolname = $1",
        )
        .bind(role)
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        match found {
            None => return Err(GrantError::UnknownRole(role.to_owned())),
            Some(true) => return Err(GrantError::Owner(role.to_owned())),
            Some(false) => {}
        }
        let schema: String = sqlx::query_scalar("SELECT quote_ident(current_schema())")
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        for grant in GRANTS {
            let statement = grant.replace("{schema}", &schema).replace("{role}", &format!("\"{role}\""));
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await.map_err(StoreError::from)?;
        }
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// Whether Herald's own role could change the audit log: it owns the table, or is a superuser.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn may_change_audit(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT pg_has_role(current_user, c.relowner, 'USAGE')
                 OR has_table_privilege('audit_log', 'UPDATE') OR has_table_privilege('audit_log', 'DELETE')
             FROM pg_class c
             WHERE c.oid = 'audit_log'::regclass",
        )
        .fetch_one(self.pool())
        .await?)
    }
}
