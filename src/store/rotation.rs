//! Rotation of the secret key: what earlier keys sealed is sealed again with the current one, without downtime.

use sqlx::Row;
use uuid::Uuid;

use super::secrets::{delivery_place, event_place};
use super::{
    Store, StoreError, apps, connectors, erasures, outcome_reports, second_factors, webhook_bodies, webhooks,
};
use crate::domain::app::AppId;
use crate::domain::id::{
    ConnectorId, DeliveryId, EventId, MemberId, ReceivedBodyId, TypedId, WebhookSecretId,
};

/// Rows that are sealed again in one statement.
const ROWS_AT_ONCE: i64 = 500;

/// One kind of sealed values.
#[derive(Debug, Clone, Copy)]
pub struct SealedKind {
    /// Its name for people.
    pub name: &'static str,
    count: &'static str,
    find: &'static str,
    put: &'static str,
    place: fn(Uuid) -> String,
}

/// Every kind of sealed values. A value's bytes 2 to 5 name its key.
pub const SEALED_KINDS: [SealedKind; 10] = [
    SealedKind {
        name: "apps' keys",
        count: "SELECT count(*) FROM apps WHERE substring(api_key FROM 2 FOR 4) <> $1",
        find: "SELECT id, api_key AS sealed
               FROM apps
               WHERE substring(api_key FROM 2 FOR 4) <> $1 AND id > $2
               ORDER BY id
               LIMIT $3",
        put: "UPDATE apps a
              SET api_key = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE a.id = n.id AND a.api_key = n.before",
        place: |id| apps::place(AppId(id)),
    },
    SealedKind {
        name: "webhook secrets",
        count: "SELECT count(*) FROM webhook_secrets WHERE substring(sealed FROM 2 FOR 4) <> $1",
        find: "SELECT id, sealed
               FROM webhook_secrets
               WHERE substring(sealed FROM 2 FOR 4) <> $1 AND id > $2
               ORDER BY id
               LIMIT $3",
        put: "UPDATE webhook_secrets s
              SET sealed = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE s.id = n.id AND s.sealed = n.before",
        place: |id| webhooks::secret_place(WebhookSecretId::from_uuid(id)),
    },
    SealedKind {
        name: "webhook bodies",
        count: "SELECT count(*) FROM webhook_deliveries WHERE substring(sealed FROM 2 FOR 4) <> $1",
        find: "SELECT id, sealed
               FROM webhook_deliveries
               WHERE substring(sealed FROM 2 FOR 4) <> $1 AND id > $2
               ORDER BY id
               LIMIT $3",
        put: "UPDATE webhook_deliveries b
              SET sealed = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE b.id = n.id AND b.sealed = n.before",
        place: |id| webhook_bodies::body_place(ReceivedBodyId::from_uuid(id)),
    },
    SealedKind {
        name: "sensitive values of events",
        count: "SELECT count(*) FROM event_secrets WHERE substring(sealed FROM 2 FOR 4) <> $1",
        find: "SELECT event_id AS id, sealed
               FROM event_secrets
               WHERE substring(sealed FROM 2 FOR 4) <> $1 AND event_id > $2
               ORDER BY event_id
               LIMIT $3",
        put: "UPDATE event_secrets s
              SET sealed = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE s.event_id = n.id AND s.sealed = n.before",
        place: |id| event_place(EventId::from_uuid(id)),
    },
    SealedKind {
        name: "values supplied for deliveries",
        count: "SELECT count(*) FROM delivery_values WHERE substring(sealed FROM 2 FOR 4) <> $1",
        find: "SELECT delivery_id AS id, sealed
               FROM delivery_values
               WHERE substring(sealed FROM 2 FOR 4) <> $1 AND delivery_id > $2
               ORDER BY delivery_id
               LIMIT $3",
        put: "UPDATE delivery_values v
              SET sealed = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE v.delivery_id = n.id AND v.sealed = n.before",
        place: |id| delivery_place(DeliveryId::from_uuid(id)),
    },
    SealedKind {
        name: "malformed reports",
        count: "SELECT count(*) FROM malformed_reports WHERE substring(sealed FROM 2 FOR 4) <> $1",
        find: "SELECT key AS id, sealed
               FROM malformed_reports
               WHERE substring(sealed FROM 2 FOR 4) <> $1 AND key > $2
               ORDER BY key
               LIMIT $3",
        put: "UPDATE malformed_reports m
              SET sealed = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (key, before, after)
              WHERE m.key = n.key AND m.sealed = n.before",
        place: outcome_reports::malformed_place,
    },
    SealedKind {
        name: "authenticators' secrets",
        count: "SELECT count(*) FROM second_factors WHERE substring(secret FROM 2 FOR 4) <> $1",
        find: "SELECT member_id AS id, secret AS sealed
               FROM second_factors
               WHERE substring(secret FROM 2 FOR 4) <> $1 AND member_id > $2
               ORDER BY member_id
               LIMIT $3",
        put: "UPDATE second_factors f
              SET secret = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE f.member_id = n.id AND f.secret = n.before",
        place: |id| second_factors::place(MemberId::from_uuid(id)),
    },
    SealedKind {
        name: "the key of erasures",
        count: "SELECT count(*) FROM erasure_key WHERE substring(sealed FROM 2 FOR 4) <> $1",
        find: "SELECT id, sealed
               FROM erasure_key
               WHERE substring(sealed FROM 2 FOR 4) <> $1 AND id > $2
               ORDER BY id
               LIMIT $3",
        put: "UPDATE erasure_key k
              SET sealed = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE k.id = n.id AND k.sealed = n.before",
        place: erasures::key_place,
    },
    SealedKind {
        name: "identifiers of open erasures",
        count: "SELECT count(*) FROM erasures WHERE substring(identifiers FROM 2 FOR 4) <> $1",
        find: "SELECT id, identifiers AS sealed
               FROM erasures
               WHERE substring(identifiers FROM 2 FOR 4) <> $1 AND id > $2
               ORDER BY id
               LIMIT $3",
        put: "UPDATE erasures e
              SET identifiers = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE e.id = n.id AND e.identifiers = n.before",
        place: erasures::place,
    },
    SealedKind {
        name: "connectors' addresses",
        count: "SELECT count(*) FROM connectors WHERE substring(connection FROM 2 FOR 4) <> $1",
        find: "SELECT id, connection AS sealed
               FROM connectors
               WHERE substring(connection FROM 2 FOR 4) <> $1 AND id > $2
               ORDER BY id
               LIMIT $3",
        put: "UPDATE connectors c
              SET connection = n.after
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, before, after)
              WHERE c.id = n.id AND c.connection = n.before",
        place: |id| connectors::place(ConnectorId::from_uuid(id)),
    },
];

impl Store {
    /// How many values of a kind are sealed with a key other than the current one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_sealed_before(&self, kind: SealedKind) -> Result<i64, StoreError> {
        let present = self.vault().present_id();
        Ok(sqlx::query_scalar(kind.count).bind(present.as_slice()).fetch_one(self.pool()).await?)
    }

    /// Seals the next values of a kind again, from `after` on. Returns how many there were and the last of them; `None`
    /// at the end. A value that changes meanwhile is left alone.
    ///
    /// # Errors
    /// [`StoreError::Sealed`] for a value that was sealed with an unknown key; [`StoreError::Database`].
    pub async fn seal_again(
        &self,
        kind: SealedKind,
        after: Uuid,
    ) -> Result<Option<(usize, Uuid)>, StoreError> {
        let present = self.vault().present_id();
        let rows = sqlx::query(kind.find)
            .bind(present.as_slice())
            .bind(after)
            .bind(ROWS_AT_ONCE)
            .fetch_all(self.pool())
            .await?;
        let (mut ids, mut before, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let (id, old): (Uuid, Vec<u8>) = (row.try_get("id")?, row.try_get("sealed")?);
            let place = (kind.place)(id);
            let plain = self.vault().open(&place, &old)?;
            sealed.push(self.vault().seal(&place, &plain)?);
            ids.push(id);
            before.push(old);
        }
        let Some(last) = ids.last().copied() else { return Ok(None) };
        let count = ids.len();
        sqlx::query(kind.put).bind(ids).bind(before).bind(sealed).execute(self.pool()).await?;
        Ok(Some((count, last)))
    }
}
