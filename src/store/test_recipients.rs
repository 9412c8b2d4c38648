//! The recipients that test sends may go to.

use sqlx::Row;

use super::{Store, StoreError, Tx};
use crate::domain::event::{Recipient, RecipientLabel};

impl Store {
    /// All test recipients, with their notes.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn test_recipients(&self) -> Result<Vec<(Recipient, String)>, StoreError> {
        let rows = sqlx::query("SELECT label, id, note FROM test_recipients ORDER BY label, id")
            .fetch_all(self.pool())
            .await?;
        rows.iter()
            .map(|row| {
                let label = RecipientLabel::from_label(row.try_get("label")?);
                Ok((Recipient { label, id: row.try_get("id")? }, row.try_get("note")?))
            })
            .collect()
    }

    /// Whether a person is a test recipient.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn is_test_recipient(&self, recipient: &Recipient) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM test_recipients WHERE label = $1 AND id = $2)")
            .bind(recipient.label.as_str())
            .bind(&recipient.id)
            .fetch_one(self.pool())
            .await?)
    }
}

/// Adds a test recipient, or changes the note.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn add(tx: &mut Tx, recipient: &Recipient, note: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO test_recipients (label, id, note) VALUES ($1, $2, $3)
         ON CONFLICT (label, id) DO UPDATE SET note = $3",
    )
    .bind(recipient.label.as_str())
    .bind(&recipient.id)
    .bind(note)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a test recipient; `false` if there was none.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remove(tx: &mut Tx, recipient: &Recipient) -> Result<bool, StoreError> {
    let gone = sqlx::query("DELETE FROM test_recipients WHERE label = $1 AND id = $2")
        .bind(recipient.label.as_str())
        .bind(&recipient.id)
        .execute(&mut **tx)
        .await?;
    Ok(gone.rows_affected() > 0)
}
